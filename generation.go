package signalbox

// GenerationStep is what generations are counted on by at a start of the program: the last ones of a program that was killed were not
// persisted, and no number is given twice. Whoever counts persists the number at least each half of it.
const GenerationStep = 1000

// ResumeGeneration returns the generation at which a program goes on, given the last one that was persisted.
func ResumeGeneration(persisted uint64) uint64 {
	return (persisted/GenerationStep + 1) * GenerationStep
}
