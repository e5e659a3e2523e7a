package manifest

import "strings"

// findTOML11 finds what TOML 1.1 allows in inline tables and TOML 1.0 does not:
// line breaks and a comma before the closing brace. Our parser reads 1.1, ggen
// itself reads 1.0; a package that only one of them can read would be published
// and then fail at everybody who installs it. data must be valid TOML; why is
// empty if nothing was found.
func findTOML11(data []byte) (line, column int, why string) {
	text := string(data)
	line = 1
	lineStart := 0
	var open []byte // braces and brackets around the current place
	comma := false  // the last thing in the current inline table was a comma
	for i := 0; i < len(text); i++ {
		inTable := len(open) > 0 && open[len(open)-1] == '{'
		c := text[i]
		switch c {
		case ' ', '\t', '\r':
			continue
		case '#':
			if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
				i += end - 1
			} else {
				i = len(text)
			}
			continue
		case '\n':
			if inTable {
				return line, i - lineStart + 1, "an inline table { … } goes over more than one line"
			}
			line, lineStart = line+1, i+1
			continue
		case '"', '\'':
			end := stringEnd(text, i)
			for j := i; j < end; j++ {
				if text[j] == '\n' {
					line, lineStart = line+1, j+1
				}
			}
			i = end - 1
		case '{', '[':
			open = append(open, c)
		case '}', ']':
			if c == '}' && comma {
				return line, i - lineStart + 1, "an inline table ends with a comma"
			}
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
		comma = c == ',' && inTable
	}
	return 0, 0, ""
}

// stringEnd is where the string that begins at start ends.
func stringEnd(text string, start int) int {
	quote := text[start : start+1]
	if strings.HasPrefix(text[start:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	for i := start + len(quote); i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote[0] == '"':
			i++
		case strings.HasPrefix(text[i:], quote):
			end := i + len(quote)
			for len(quote) == 3 && end < len(text) && text[end] == quote[0] {
				end++ // a multi-line string may end in up to two quotes of its own
			}
			return end
		}
	}
	return len(text)
}
