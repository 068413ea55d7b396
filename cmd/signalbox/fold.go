package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// folding prints for people: on a terminal, lines that are longer than it is wide are folded at words. Elsewhere, and for what is to
// be copied, they stay as they are.
func (p *program) folding(show func() error) error {
	file, ok := p.stdout.(*os.File)
	if !ok || !onTerminal(file) {
		return show()
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < narrowest {
		return show()
	}
	f := &folded{file: file, to: file, width: width}
	p.stdout = f
	defer func() { p.stdout = file }()
	if err := show(); err != nil {
		return err
	}
	return f.flush()
}

// narrowest is how many columns a terminal has on which folding helps.
const narrowest = 40

// folded is a terminal whose lines are folded.
type folded struct {
	file  *os.File // that the terminal is
	to    io.Writer
	width int
	rest  []byte // a line that has not ended
}

// Fd lets a folded terminal count as one.
func (f *folded) Fd() uintptr { return f.file.Fd() }

func (f *folded) Write(b []byte) (int, error) {
	f.rest = append(f.rest, b...)
	end := bytes.LastIndexByte(f.rest, '\n') + 1
	var out strings.Builder
	for line := range strings.Lines(string(f.rest[:end])) {
		out.WriteString(fold(strings.TrimSuffix(line, "\n"), f.width) + "\n")
	}
	f.rest = append([]byte(nil), f.rest[end:]...)
	if _, err := io.WriteString(f.to, out.String()); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *folded) flush() error {
	_, err := f.to.Write(f.rest)
	f.rest = nil
	return err
}

var (
	spacedWord = regexp.MustCompile(` *[^ ]+`)
	gap        = regexp.MustCompile(`[^ ] {2,}`)
	painting   = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// fold breaks a line between words. What goes on below stands under the last column of the line that leaves it half of the width, or a
// little to the right of the line's beginning. A word that is too long for any line is left to the terminal: it stays whole for whoever copies it.
func fold(line string, width int) string {
	if columns(line) <= width {
		return line
	}
	words := spacedWord.FindAllString(line, -1)
	hang := hanging(line, words, width)
	var b strings.Builder
	used := 0
	for _, word := range words {
		if bare := strings.TrimLeft(word, " "); used > 0 && used+columns(word) > width && hang+columns(bare) <= width {
			word = bare
			b.WriteString("\n" + strings.Repeat(" ", hang))
			used = hang
		}
		b.WriteString(word)
		used += columns(word)
	}
	return b.String()
}

// hanging returns where folded lines begin.
func hanging(line string, words []string, width int) int {
	longest := 0
	for _, word := range words {
		longest = max(longest, columns(strings.TrimLeft(word, " ")))
	}
	lead := len(line) - len(strings.TrimLeft(line, " "))
	hang := lead + 4
	for _, at := range gap.FindAllStringIndex(line, -1) {
		if column := columns(line[:at[1]]); column <= width/2 && column+longest <= width {
			hang = column
		}
	}
	return hang
}

// columns returns how many columns a text takes on a terminal.
func columns(s string) int { return utf8.RuneCountInString(painting.ReplaceAllString(s, "")) }
