package main

import (
	"fmt"
	"slices"
	"strings"
)

// contextLines is how many equal lines stand around those that differ.
const contextLines = 3

// maxTable bounds the table of a comparison: what is larger is shown as replaced.
const maxTable = 4 << 20

// unified returns the lines of a unified diff of two texts, without its file names; nil where they are equal.
func unified(from, to string) []string {
	a, b := splitLines(from), splitLines(to)
	edits := editsOf(a, b)
	var out []string
	for i := 0; i < len(edits); {
		if edits[i].sign == ' ' {
			i++
			continue
		}
		// A hunk goes on as long as the equal lines between two differences are all within their context.
		start, end, equal := max(i-contextLines, 0), i, 0
		for j := i; j < len(edits) && equal <= 2*contextLines; j++ {
			if equal++; edits[j].sign != ' ' {
				end, equal = j+1, 0
			}
		}
		stop := min(end+contextLines, len(edits))
		out = append(out, hunk(edits[start:stop])...)
		i = stop
	}
	return out
}

// edit is one line of a comparison. a and b count the lines of each side before it.
type edit struct {
	sign byte // ' ', '-', '+'
	line string
	a, b int
}

func hunk(edits []edit) []string {
	var out []string
	var a, b int
	for _, e := range edits {
		if e.sign != '+' {
			a++
		}
		if e.sign != '-' {
			b++
		}
		out = append(out, string(e.sign)+e.line)
	}
	place := func(before, n int) string {
		if n > 0 {
			before++
		}
		return fmt.Sprintf("%d,%d", before, n)
	}
	head := fmt.Sprintf("@@ -%s +%s @@", place(edits[0].a, a), place(edits[0].b, b))
	return slices.Insert(out, 0, head)
}

// editsOf returns a shortest way from a to b, by the longest lines that both have in one order.
func editsOf(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	n, m := len(a)-head-tail, len(b)-head-tail
	// common[i][j] is how many lines a[i:] and b[j:] of the middle have in common.
	common := make([][]int32, n+1)
	if (n+1)*(m+1) <= maxTable {
		for i := n; i >= 0; i-- {
			common[i] = make([]int32, m+1)
			for j := m - 1; j >= 0 && i < n; j-- {
				if a[head+i] == b[head+j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
	}
	out := make([]edit, 0, len(a)+m)
	add := func(sign byte, line string, i, j int) { out = append(out, edit{sign, line, i, j}) }
	for i := range head {
		add(' ', a[i], i, i)
	}
	i, j := 0, 0
	for i < n || j < m {
		x, y := head+i, head+j
		switch {
		case i < n && j < m && a[x] == b[y] && common[0] != nil:
			add(' ', a[x], x, y)
			i, j = i+1, j+1
		case i < n && (j == m || common[0] == nil || common[i+1][j] >= common[i][j+1]):
			add('-', a[x], x, y)
			i++
		default:
			add('+', b[y], x, y)
			j++
		}
	}
	for k := range tail {
		add(' ', a[len(a)-tail+k], len(a)-tail+k, len(b)-tail+k)
	}
	return out
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
