// Package render shows the results of commands: each result is one document with
// one Go value, which is printed as text for a person or as one line of JSON.
//
// The result goes to standard output. Everything else (remarks, errors, progress)
// goes to standard error. Text that came from other people is cleaned of what
// could act on a terminal before it gets there.
//
// It neither calls engines nor reads files; package main of the host does.
package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"

	"ggen.dev/marketplace/shared"
)

// Document is the result of a command. Its JSON form is its fields.
type Document interface {
	// Text writes the form for people.
	Text(p *Page)
}

// Output knows where a command's result and remarks go, and in which form. Its
// methods are not safe for concurrent use.
type Output struct {
	Out io.Writer // results
	Err io.Writer // everything else

	JSON     bool // results as one line of JSON
	YAML     bool // results as one document of YAML, with the fields of the JSON
	Quiet    bool // no progress and no remarks of severity info; results without decoration
	Verbose  bool // more detail in remarks
	Color    bool // Out understands colours
	ColorErr bool // Err understands colours
	Terminal bool // Err is a terminal, where progress may be drawn
	Width    int  // columns of Out; 0 when it is not a terminal
}

// Aside writes a document as text to Err, beside the result or an error.
func (o *Output) Aside(doc Document) {
	var b bytes.Buffer
	aside := *o
	aside.Color, aside.Width = o.ColorErr, 0
	doc.Text(&Page{b: &b, Output: &aside})
	_, _ = o.Err.Write(b.Bytes()) // there is nobody left to tell
}

// Print writes a result. JSON is exactly one line.
func (o *Output) Print(doc Document) error {
	if o.JSON || o.YAML {
		return o.printData(doc)
	}
	var b bytes.Buffer
	doc.Text(&Page{b: &b, Output: o})
	_, err := o.Out.Write(b.Bytes())
	return err
}

// printData writes something for a program.
func (o *Output) printData(v any) error {
	form := encode
	if o.YAML {
		form = encodeYAML
	}
	data, err := form(v)
	if err != nil {
		return err
	}
	_, err = o.Out.Write(data)
	return err
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return escapeUnsafe(b.Bytes()), nil
}

// escapeUnsafe writes characters that would act on a terminal, and that JSON lets
// through, as escapes: the document means the same and can be looked at.
func escapeUnsafe(line []byte) []byte {
	if bytes.IndexFunc(line, func(r rune) bool { return r != '\n' && unsafe(r) }) < 0 {
		return line
	}
	var b bytes.Buffer
	for _, r := range string(line) {
		switch {
		case r == '\n' || !unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// Failure is what a failure puts on standard output with --json.
type Failure struct {
	Error ErrorFields `json:"error"` // what went wrong
}

// ErrorFields is an error in JSON.
type ErrorFields struct {
	Reason    shared.Reason     `json:"reason"`             // stable name of what went wrong; see the exit codes in CLI.md
	Message   string            `json:"message"`            // what happened, in one line for people
	Hint      string            `json:"hint,omitempty"`     // what to do next
	Retryable bool              `json:"retryable"`          // the same command may succeed later
	Metadata  map[string]string `json:"metadata,omitempty"` // further facts by stable keys
}

// NewErrorFields takes over an error; nil stays nil.
func NewErrorFields(e *shared.Error) *ErrorFields {
	if e == nil {
		return nil
	}
	return &ErrorFields{Reason: e.Reason, Message: e.Message, Hint: e.Hint, Retryable: e.Retryable, Metadata: e.Metadata}
}

// Fail says on Err what went wrong and what to do. With JSON or YAML, and unless a result
// was printed already, the error is also the one document on Out.
func (o *Output) Fail(e *shared.Error, printed bool) error {
	if (o.JSON || o.YAML) && !printed {
		if err := o.printData(Failure{Error: *NewErrorFields(e)}); err != nil {
			return err
		}
	}
	o.remark(color.FgRed, "error", e.Message)
	if e.Hint != "" {
		o.remark(color.FgCyan, "hint", e.Hint)
	}
	if o.Verbose {
		o.remark(color.Faint, "reason", string(e.Reason))
		for _, key := range sortedKeys(e.Metadata) {
			o.remark(color.Faint, "  "+key, e.Metadata[key])
		}
	}
	return nil
}

// Remarks prints diagnostics on Err.
func (o *Output) Remarks(diagnostics []shared.Diagnostic) {
	for _, d := range diagnostics {
		if d.Severity == shared.SeverityInfo {
			o.Note("%s", d.Message)
			if d.Hint != "" && !o.Quiet {
				o.remark(color.FgCyan, "hint", d.Hint)
			}
			continue
		}
		o.Warn("%s", d.Message)
		if d.Hint != "" {
			o.remark(color.FgCyan, "hint", d.Hint)
		}
	}
}

// Warn prints a warning on Err.
func (o *Output) Warn(format string, args ...any) {
	o.remark(color.FgYellow, "warning", fmt.Sprintf(format, args...))
}

// Note prints something that is good to know on Err, unless Quiet.
func (o *Output) Note(format string, args ...any) {
	if !o.Quiet {
		o.remark(color.FgBlue, "note", fmt.Sprintf(format, args...))
	}
}

// remark loses what cannot be written: there is nobody left to tell.
func (o *Output) remark(attribute color.Attribute, label, text string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(strip(line), " ")
	}
	_, _ = fmt.Fprintf(o.Err, "%s %s\n", paint(o.ColorErr, strip(label)+":", attribute, color.Bold), strings.Join(lines, "\n  "))
}

// paint does not ask the library whether to colour: Output has decided.
func paint(on bool, text string, attributes ...color.Attribute) string {
	if !on {
		return text
	}
	style := color.New(attributes...)
	style.EnableColor()
	return style.Sprint(text)
}

// Clean makes text from other people safe for a terminal and one line: control
// characters, invalid UTF-8 and characters that reorder or hide text are dropped,
// white space becomes a single space.
func Clean(text string) string { return strings.Join(strings.Fields(strip(text)), " ") }

// strip is Clean without folding spaces.
func strip(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\v' || r == '\f' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029:
			return ' '
		case r == utf8.RuneError || unsafe(r):
			return -1
		}
		return r
	}, text)
}

// unsafe are controls (C0, DEL, C1), what changes the direction of text (UAX #9),
// line and paragraph separators, invisible characters, and tag characters. The
// two joiners U+200C and U+200D stay: scripts and emoji need them.
func unsafe(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r == 0x00ad, r == 0x061c, r == 0x180e, r == 0x200b, r == 0x200e, r == 0x200f, r == 0xfeff:
		return true
	case r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	case r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}
