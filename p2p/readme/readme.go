// Package readme makes a short plain text of the beginning of a package's readme, for
// searches: Markdown and HTML lose their markup, code blocks, images, badges and
// addresses go altogether, and what is left is one line.
//
// It is no renderer. It knows the markup that readmes are written in well enough to
// leave it out, and where it is wrong, a few odd characters stay or a few words are
// missing: whoever wants to read the readme finds all of it in the package.
package readme

import (
	"bytes"
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSource is how many bytes of a file are worth reading: an [Excerpt] of some hundred
// bytes is in them, unless the file begins with still more markup.
const MaxSource = 16 << 10

// names are those that a readme may have, in lower case, the likeliest to be prose first.
var names = []string{"readme.md", "readme.markdown", "readme.txt", "readme", "readme.rst", "readme.adoc", "readme.html"}

// Find picks the readme among the names of the files in a package's own folder; it is
// empty if there is none.
func Find(files []string) string {
	for _, name := range names {
		if i := slices.IndexFunc(files, func(file string) bool { return strings.ToLower(file) == name }); i >= 0 {
			return files[i]
		}
	}
	return ""
}

// Excerpt is the beginning of a readme as plain text: valid UTF-8 of at most so many
// bytes, in which words stand apart by one space, and which holds no control characters
// or invisible ones. It ends with a whole word, if it is not one word alone. It is empty
// for what is not text.
//
// Its time grows with the length of source, of which MaxSource bytes are read.
func Excerpt(source []byte, most int) string {
	source = source[:min(len(source), MaxSource)]
	if bytes.IndexByte(source, 0) >= 0 {
		return ""
	}
	text := strings.ToValidUTF8(string(source), "")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(text, "\ufeff"))
	text = hidden.ReplaceAllString(prose(text), " ")
	text = tag.ReplaceAllString(text, " ")
	text = image.ReplaceAllString(text, " ")
	text = link.ReplaceAllString(text, "$1")
	text = address.ReplaceAllString(text, " ")
	return cut(plain(html.UnescapeString(unmarked(text))), most)
}

// What stands in lines and between them. All expressions take linear time, see package
// regexp.
var (
	hidden  = regexp.MustCompile(`(?is)<!--.*?(?:-->|\z)|<script\b.*?(?:</script\s*>|\z)|<style\b.*?(?:</style\s*>|\z)`)
	tag     = regexp.MustCompile(`</?[A-Za-z][^<>]*>|<[!?][^<>]*>`)
	image   = regexp.MustCompile(`!\[[^\[\]]*\](?:\([^()]*\)|\[[^\[\]]*\])?`)
	link    = regexp.MustCompile(`\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])?`)
	address = regexp.MustCompile(`\b[a-z]+://[^\s|]+`)
)

// What a line may begin with, and what lines are none of the text.
var (
	fence  = regexp.MustCompile("^ {0,3}(```+|~~~+)")
	marker = regexp.MustCompile(`^(?:[ \t]*(?:>|#{1,6}(?:[ \t]|$)|[-*+][ \t]|[0-9]{1,9}[.)][ \t]))*`)
	ruler  = regexp.MustCompile(`^[-=*_:|+ \t]+$`)
	target = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:`)
)

// prose leaves out front matter, blocks of code, lines of markup alone, and what marks
// the others as headings, quotations or parts of lists.
func prose(text string) string {
	lines := strings.Split(text, "\n")
	if strings.TrimRight(lines[0], " \t") == "---" {
		if end := slices.IndexFunc(lines[1:], func(line string) bool { return strings.TrimRight(line, " \t") == "---" }); end >= 0 {
			lines = lines[end+2:]
		}
	}
	var kept []string
	inside := "" // the fence of the block of code
	for _, line := range lines {
		found := ""
		if m := fence.FindStringSubmatch(line); m != nil {
			found = m[1]
		}
		switch {
		case inside != "":
			if strings.HasPrefix(found, inside) {
				inside = ""
			}
		case found != "":
			inside = found
		case !ruler.MatchString(line) && !target.MatchString(line):
			kept = append(kept, line[len(marker.FindString(line)):])
		}
	}
	return strings.Join(kept, "\n")
}

// unmarked leaves out the marks of emphasis, code and tables, but not those that a
// backslash protects, nor underscores within a word.
func unmarked(text string) string {
	var out strings.Builder
	runes := []rune(text)
	wordly := func(i int) bool {
		return i >= 0 && i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]))
	}
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; {
		case r == '\\' && i+1 < len(runes) && strings.ContainsRune(punctuation, runes[i+1]):
			i++
			out.WriteRune(runes[i])
		case r == '_':
			first := i
			for i+1 < len(runes) && runes[i+1] == '_' {
				i++
			}
			if wordly(first-1) && wordly(i+1) {
				out.WriteString(string(runes[first : i+1]))
			}
		case !strings.ContainsRune("*`~|", r):
			out.WriteRune(r)
		}
	}
	return out.String()
}

// punctuation is what a backslash can protect in Markdown.
const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// plain leaves out what cannot be seen, and folds white space.
func plain(text string) string {
	visible := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.C, r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(visible), " ")
}

// cut shortens a text at the end of a word or, if it is one long word, of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	if end := strings.LastIndexByte(text[:most+1], ' '); end > 0 {
		return text[:end]
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
