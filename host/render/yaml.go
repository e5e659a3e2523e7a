package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// encodeYAML writes a document as block YAML 1.2: the fields of its JSON form, in their
// order, with every text in double quotes and escaped as in JSON, which YAML understands.
// So no text is ever taken for a number, a date or a tag.
func encodeYAML(v any) ([]byte, error) {
	line, err := encode(v)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var b bytes.Buffer
	b.WriteString("---")
	if err := yamlValue(&b, decoder, 0); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("encode the result: more than one document")
	}
	return escapeUnsafe(b.Bytes()), nil
}

// yamlValue writes the next value behind a key or a dash.
func yamlValue(b *bytes.Buffer, decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Delim:
		return yamlBlock(b, decoder, token, depth)
	case string:
		text, err := jsonText(token)
		if err != nil {
			return err
		}
		b.WriteString(" " + text + "\n")
	case nil:
		b.WriteString(" null\n")
	default:
		fmt.Fprintf(b, " %v\n", token) // a number as it stands in the JSON, or true or false
	}
	return nil
}

// yamlBlock writes the entries of an object or a list, and reads its end.
func yamlBlock(b *bytes.Buffer, decoder *json.Decoder, open json.Delim, depth int) error {
	empty := map[json.Delim]string{'{': " {}\n", '[': " []\n"}
	if !decoder.More() {
		b.WriteString(empty[open])
		_, err := decoder.Token()
		return err
	}
	b.WriteString("\n")
	for decoder.More() {
		b.WriteString(strings.Repeat("  ", depth))
		label := "-"
		if open == '{' {
			key, err := decoder.Token()
			if err != nil {
				return err
			}
			text, err := jsonText(fmt.Sprint(key))
			if err != nil {
				return err
			}
			if plain := strings.Trim(text, `"`); plainKey(plain) {
				text = plain
			}
			label = text + ":"
		}
		b.WriteString(label)
		if err := yamlValue(b, decoder, depth+1); err != nil {
			return err
		}
	}
	_, err := decoder.Token()
	return err
}

// plainKey tells whether a name can stand without quotes: our own fields can. Two letters
// and more, and no word that YAML 1.1 took for a truth value.
func plainKey(key string) bool {
	for _, word := range []string{"no", "yes", "on", "off", "true", "false", "null"} {
		if key == word {
			return false
		}
	}
	return len(key) > 1 && !strings.ContainsFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r == '_')
	})
}

// jsonText is a text in quotes.
func jsonText(text string) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
