package publisher

import "encoding/json"

// ParseMarks is parseMarks, for its fuzz test.
var ParseMarks = parseMarks

// Rotate makes the root document after those of chain, which hands over from one
// key to another.
func Rotate(chain Chain, keep Keep, from, to *Key, format int) ([]byte, error) {
	body, err := json.Marshal(Root{Format: format, Version: len(chain.Roots) + 1, Keys: [][]byte{to.Public()}, Threshold: 1, Keep: &keep})
	if err != nil {
		return nil, err
	}
	root := signedRoot{Root: body}
	for _, key := range []*Key{from, to} {
		root.Signatures = append(root.Signatures, append([]byte(key.Public()), key.sign(append([]byte(rootContext), body...))...))
	}
	return json.Marshal(root)
}

// ParseSealed is parseSealed, for its fuzz test, and PlainSealed what it reads.
var (
	ParseSealed = parseSealed
	PlainSealed = func(s Sealed) []byte { plain, _ := s.encode(); return plain }
)
