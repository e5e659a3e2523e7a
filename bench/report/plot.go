package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Line is one curve of a [Plot].
type Line struct {
	Name   string
	X, Y   []float64
	Dashed bool // a floor, or a fit
	Points bool // marked where it was measured
}

// Plot is a diagram.
type Plot struct {
	Title, XLabel, YLabel string
	LogX                  bool
	Lines                 []Line
}

// The size of a plot and its margins, in pixels.
const (
	width, height            = 560, 320
	left, right, top, bottom = 60, 20, 30, 70
)

var colours = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"}

// SVG draws it. An empty plot is empty.
func (p Plot) SVG() template.HTML {
	minX, maxX, maxY := math.Inf(1), math.Inf(-1), 0.0
	for _, l := range p.Lines {
		for i := range l.X {
			minX, maxX, maxY = min(minX, p.scale(l.X[i])), max(maxX, p.scale(l.X[i])), max(maxY, l.Y[i])
		}
	}
	if math.IsInf(minX, 1) {
		return ""
	}
	if maxX == minX {
		maxX++
	}
	maxY = max(maxY*1.05, 1e-9)
	x := func(v float64) float64 { return left + (p.scale(v)-minX)/(maxX-minX)*(width-left-right) }
	y := func(v float64) float64 { return height - bottom - v/maxY*(height-top-bottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11">`, width, height, width, height)
	fmt.Fprintf(&b, `<text x="%d" y="16" font-size="13">%s</text>`, left, escape(p.Title))
	const ticks = 5
	for i := range ticks + 1 {
		v := maxY * float64(i) / ticks
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, left, width-right, y(v), y(v), left-5, y(v)+4, figure(v))
	}
	for _, v := range p.ticksX(minX, maxX) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(v), height-bottom+15, figure(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-bottom+30, escape(p.XLabel))
	fmt.Fprintf(&b, `<text x="12" y="%d" transform="rotate(-90 12 %d)" text-anchor="middle">%s</text>`, (top+height-bottom)/2, (top+height-bottom)/2, escape(p.YLabel))
	at := left
	for i, l := range p.Lines {
		colour, dash := colours[i%len(colours)], ""
		if l.Dashed {
			dash = ` stroke-dasharray="4 3"`
		}
		var points []string
		for j := range l.X {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(l.X[j]), y(l.Y[j])))
			if l.Points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(l.X[j]), y(l.Y[j]), colour)
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s"%s/>`, strings.Join(points, " "), colour, dash)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`, at, height-22+14*(i/4), colour, escape(l.Name))
		if at += (width - left) / 4; i%4 == 3 {
			at = left
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // all text in it is escaped
}

func escape(text string) string { return template.HTMLEscapeString(text) }

func (p Plot) scale(x float64) float64 {
	if p.LogX {
		return math.Log2(max(x, 1e-9))
	}
	return x
}

// ticksX are where the axis has numbers: with a logarithmic one, where something was
// measured.
func (p Plot) ticksX(from, to float64) (ticks []float64) {
	if p.LogX {
		for _, l := range p.Lines {
			if l.Points {
				ticks = append(ticks, l.X...)
			}
		}
		slices.Sort(ticks)
		return slices.Compact(ticks)
	}
	const count = 5
	for i := range count + 1 {
		ticks = append(ticks, from+(to-from)*float64(i)/count)
	}
	return ticks
}

// Fit is y = A + B·log2(x) by least squares.
type Fit struct {
	A, B      float64
	R2        float64   // the share of the variance that it explains
	Residuals []float64 // measured less fitted
}

// FitLog fits points, of which there must be two at least with different x.
func FitLog(x, y []float64) (f Fit, ok bool) {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		l := math.Log2(x[i])
		sx, sy, sxx, sxy = sx+l, sy+y[i], sxx+l*l, sxy+l*y[i]
	}
	spread := n*sxx - sx*sx
	if len(x) < 2 || spread == 0 {
		return f, false
	}
	f.B = (n*sxy - sx*sy) / spread
	f.A = (sy - f.B*sx) / n
	var left, all float64
	for i := range x {
		residual := y[i] - f.A - f.B*math.Log2(x[i])
		f.Residuals = append(f.Residuals, residual)
		left += residual * residual
		all += (y[i] - sy/n) * (y[i] - sy/n)
	}
	f.R2 = 1
	if all > 0 {
		f.R2 = 1 - left/all
	}
	return f, true
}
