package metrics

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

// sameReading reports how the quick and the general way of counting a log differ, "" if they do not, and how many lines took the quick one.
func sameReading(t *testing.T, log []byte) (quick int) {
	t.Helper()
	fast, general := newTally(), newTally()
	// Behind the log there is what could pass for the end of any line, if its own end were not seen.
	behind := strings.Repeat("0/0/0/0/0 200 1 - - ---- 1/1/1/1/1 0/0 \"GET / HTTP/1.1\" 0/0/0/0/0 200 1 - - ---- 1/1/1/1/1 0/0 \"GET / HTTP/1.1\"\n", minQuick)
	for rest := append(append(bytes.Clone(log), '\n'), behind...); len(rest) > len(behind); {
		line := rest[:bytes.IndexByte(rest, '\n')]
		switch n := fast.quick(rest); n {
		case 0:
			fast.general(line)
		case len(line):
			fast.out.Lines++
			if quick++; quick%5 == 0 {
				fast.settle()
			}
		default:
			t.Fatalf("%q: the quick way ends at %d", line, n)
		}
		general.general(line)
		rest = rest[len(line)+1:]
	}
	text := func(one *tally) string {
		b, err := json.Marshal(merged([]*tally{one}))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := text(fast), text(general); a != b {
		t.Errorf("the quick way and the general one differ for\n%q\nquick   %s\ngeneral %s", log, a, b)
	}
	return quick
}

// The quick way counts as the general one does, and takes the lines that are as most are.
func TestQuick(t *testing.T) {
	lines := 10_000
	quick := sameReading(t, writtenLog(lines))
	if share := float64(quick) / float64(lines); share < 0.5 {
		t.Errorf("%.2f of the lines took the quick way", share)
	}
}

// Bytes that are changed, taken out or put in anywhere never make a difference between the two.
func TestQuickHostile(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	lines := maps.Clone(standardLines)
	lines["quick"] = strings.Replace(httplogLine, "+2", "2", 1)
	lines["quick, times of one digit"] = strings.Replace(lines["quick"], "0/12/1/", "0/2/1/", 1)
	for name, text := range lines {
		if again := strings.Repeat(text+"\n", 3); sameReading(t, []byte(again)) != 2 && strings.HasPrefix(name, "quick") {
			t.Errorf("%s: only the first line is read in the general way, or should be", name)
		}
		for i := range len(text) {
			log := []byte(text + "\n" + text + "\n")
			for _, c := range []byte{0, ' ', '"', '/', '[', ']', ':', '{', '~', '-', '+', '9', 0x7f, 0x80, 0xff} {
				line := []byte(text)
				line[i] = c
				log = append(append(log, line...), '\n')
			}
			log = append(append(append(log, text[:i]...), text[i+1:]...), '\n')
			log = append(append(append(log, text[:i]...), text[rnd.IntN(len(text)):]...), '\n')
			log = append(append(log, text[:i]...), '\n')
			log = append(append(append(append(log, text[:i]...), "0000000"...), text[i:]...), '\n')
			sameReading(t, log)
			if t.Failed() {
				t.Fatal(name, i)
			}
		}
	}
}

func FuzzQuick(f *testing.F) {
	for _, line := range standardLines {
		f.Add([]byte(line), []byte(line))
	}
	f.Add([]byte(httplogLine), bytes.ReplaceAll([]byte(httplogLine), []byte("+2"), []byte("2")))
	f.Add([]byte(httpLine), []byte(tcpLine))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		sameReading(t, bytes.Join([][]byte{one, two, one, two}, []byte("\n")))
	})
}

// Once a log's services are known, no line costs memory.
func TestQuickAllocatesNothing(t *testing.T) {
	one, log := newTally(), writtenLog(2000)
	one.block(log, false)
	if n := testing.AllocsPerRun(10, func() { one.block(log, false) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
