package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

const (
	maxDepth = 8  // levels of nesting; a release has 4
	maxKeys  = 64 // keys of one object; a release has 16
)

// scanKeys refuses JSON, which is known to be valid, unless it is an object that
// all readers understand alike. Not so are invalid UTF-8, and keys that occur
// twice or are not plain lower-case words (encoding/json takes "Name" for "name",
// and the last of two; others do not). If deep is false, only the outermost keys
// are looked at.
func scanKeys(data []byte, deep bool) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if len(data) == 0 || data[0] != '{' {
		return errors.New("not a JSON object")
	}
	var room [2 * maxKeys][]byte // for the keys of all open objects, mostly
	levels, keys := make([]level, 0, maxDepth), room[:0]
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			if len(levels) == maxDepth && deep {
				return fmt.Errorf("nested deeper than %d", maxDepth)
			}
			object := data[i] == '{'
			levels = append(levels, level{object: object, atKey: object, keys: len(keys)})
		case '}', ']':
			keys = keys[:levels[len(levels)-1].keys]
			levels = levels[:len(levels)-1]
		case ',':
			top := &levels[len(levels)-1]
			top.atKey = top.object
		case '"':
			end := endOfString(data, i)
			if top := &levels[len(levels)-1]; top.atKey && (deep || len(levels) == 1) {
				key := data[i+1 : end]
				if err := checkKey(key, keys[top.keys:]); err != nil {
					return err
				}
				keys = append(keys, key)
			}
			levels[len(levels)-1].atKey = false
			i = end
		}
	}
	return nil
}

// strictJSON decodes data if it can be understood in one way only.
func strictJSON(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	return scanKeys(data, true)
}

// level is one object or array that the scan is inside of.
type level struct {
	object bool
	atKey  bool // the next string is a key
	keys   int  // how many were taken when it began
}

// endOfString is the index of the quote that closes the one at start.
func endOfString(data []byte, start int) int {
	for i := start + 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(data) - 1 // not in valid JSON
}

// checkKey tells whether an object that has the others can have a key.
func checkKey(key []byte, others [][]byte) error {
	for _, c := range key {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("the key %.40q is not a plain one", key)
		}
	}
	for _, other := range others {
		if string(other) == string(key) {
			return fmt.Errorf("the key %.40q occurs twice", key)
		}
	}
	if len(others) == maxKeys {
		return fmt.Errorf("over %d keys in one object", maxKeys)
	}
	return nil
}
