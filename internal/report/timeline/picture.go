package timeline

import (
	"fmt"
	"strings"
)

// picture is a timeline in the units of an SVG: a line for each thread from top to
// bottom, and what it does beside it.
type picture struct {
	Width, Height int
	Lines         []lifeline
	Marks         []mark
	Texts         []label
	Ends          []box
	Arrows        []arrow
}

type lifeline struct {
	X, Top, Bottom int
	Name           string
}

type mark struct {
	X, Y  int
	Class string
}

type label struct {
	X, Y        int
	Class, Text string
	Whole       string // what Text was cut from
}

type box struct {
	X, Y, Width, Height int
	Text                []label
}

type arrow struct{ Path string }

const (
	columnWidth = 250
	lineHeight  = 16
	left        = 20
	head        = 44
	chars       = 31 // of text beside a line, or in a box
)

// draw lays a grid out.
func draw(g grid) *picture {
	p := &picture{Width: left + columnWidth*len(g.Columns)}
	x := func(column int) int { return left + column*columnWidth }
	y, born := head, head-8
	for _, r := range g.Rows {
		y += lineHeight
		if r.Call != "" {
			p.Texts = append(p.Texts, label{X: x(r.Column) + 12, Y: y, Class: "call", Text: clip(r.Call, chars), Whole: r.Call})
			y += lineHeight
		}
		p.Marks = append(p.Marks, mark{x(r.Column), y - 4, "dot " + r.Kind})
		if r.Kind == "fork" {
			born = y - 4
		}
		p.Texts = append(p.Texts, label{X: x(r.Column) + 12, Y: y, Class: "step", Text: clip(r.Step, chars), Whole: fmt.Sprintf("%d: %s", r.Number, r.Step)})
	}
	y += lineHeight
	tallest := 0
	for _, w := range g.Waits {
		b := box{X: x(w.Column) - 8, Y: y, Width: columnWidth - 24}
		for i, l := range wrap(w.Says, chars-3) {
			b.Text = append(b.Text, label{X: b.X + 8, Y: y + 18 + i*lineHeight, Class: "wait", Text: l, Whole: w.Says})
		}
		b.Height = 12 + lineHeight*len(b.Text)
		tallest = max(tallest, b.Height)
		p.Ends = append(p.Ends, b)
	}
	// Who waits for whom, below the boxes.
	bottom := y + tallest
	for i, w := range g.Waits {
		if w.Owner < 0 {
			continue
		}
		from, to := x(w.Column)+60, x(w.Owner)+30
		deep := bottom + 26 + 12*i
		p.Arrows = append(p.Arrows, arrow{fmt.Sprintf("M %d %d V %d H %d V %d", from, bottom+2, deep, to, bottom+8)})
	}
	for i, c := range g.Columns {
		l := lifeline{x(i), head - 8, y, c}
		if strings.HasPrefix(c, "child ") {
			l.Top = born
		}
		p.Lines = append(p.Lines, l)
	}
	p.Height = bottom + 40 + 12*len(g.Waits)
	return p
}
