package render

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fatih/color"
	"golang.org/x/text/width"
)

// Page is text for a person in the making. All text that is handed to it is
// cleaned, so documents need not care where a value came from.
type Page struct {
	*Output
	b         *bytes.Buffer
	highlight []string // words, in lower case, that stand out in tables where there are colours
}

// Line writes one line.
func (p *Page) Line(format string, args ...any) {
	p.b.WriteString(strip(fmt.Sprintf(format, args...)) + "\n")
}

// Heading writes a line that stands out.
func (p *Page) Heading(format string, args ...any) {
	p.b.WriteString(paint(p.Color, strip(fmt.Sprintf(format, args...)), color.Bold) + "\n")
}

// Table writes rows below a header in aligned columns. On a terminal the last
// column is cut to its width; quiet leaves the header out.
func (p *Page) Table(header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	writeRow := func(cells []string) {
		for i, cell := range cells {
			if i > 0 {
				_, _ = w.Write([]byte{'\t'}) // a buffer takes everything
			}
			_, _ = w.Write([]byte(Clean(cell)))
		}
		_, _ = w.Write([]byte{'\n'})
	}
	if !p.Quiet {
		writeRow(header)
	}
	for _, row := range rows {
		writeRow(row)
	}
	_ = w.Flush() // into the buffer
	for i, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		line = p.cut(strings.TrimRight(line, " "))
		if i == 0 && !p.Quiet {
			line = paint(p.Color, line, color.Bold)
		} else {
			line = p.emphasise(line)
		}
		p.b.WriteString(line + "\n")
	}
}

// emphasise makes the words stand out that a search has found.
func (p *Page) emphasise(line string) string {
	if !p.Color || len(p.highlight) == 0 {
		return line
	}
	words := make([]string, len(p.highlight))
	for i, word := range p.highlight {
		words[i] = regexp.QuoteMeta(word)
	}
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) }) // the first that fits is taken
	found := regexp.MustCompile(`(?i)` + strings.Join(words, "|"))
	return found.ReplaceAllStringFunc(line, func(word string) string { return paint(true, word, color.Bold) })
}

// block writes a text of several lines, indented by four columns more than it is.
func (p *Page) block(text string) {
	for line := range strings.Lines(text) {
		code := strings.TrimLeft(line, " ")
		p.Line("    %*s%s", len(line)-len(code), "", Clean(code))
	}
}

// Fields writes names and values below each other and skips empty values.
func (p *Page) Fields(pairs ...string) {
	longest := 0
	pairs = slices.Clone(pairs)
	for i := range pairs {
		pairs[i] = Clean(pairs[i]) // the keys of a foreign manifest are labels here
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			longest = max(longest, len(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := pairs[i+1]; value != "" {
			label := fmt.Sprintf("%-*s", longest+2, pairs[i]+":")
			p.b.WriteString(paint(p.Color, label, color.Faint) + " " + value + "\n")
		}
	}
}

// cut shortens a line to the terminal.
func (p *Page) cut(line string) string {
	if p.Width <= 0 {
		return line
	}
	used, fits := 0, 0 // columns so far; bytes that leave room for an ellipsis
	for i, r := range line {
		if used < p.Width {
			fits = i
		}
		used += columns(r)
	}
	if used <= p.Width {
		return line
	}
	return strings.TrimRight(line[:fits], " ") + "…"
}

// columns is how wide a terminal draws a character.
func columns(r rune) int {
	if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// Bytes is a size for people, in powers of 1024.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 4 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}

// day is a date for people; the zero time is empty.
func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// stamp is a time in JSON: RFC 3339 in UTC to the second, or null when not known.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// orEmpty makes JSON say [] instead of null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
