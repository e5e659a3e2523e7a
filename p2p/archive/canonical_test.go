package archive

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLengthOfAHeader(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := &node{
			path: rapid.OneOf(rapid.StringMatching(`[ -~]{1,100}`), rapid.StringMatching(`[a-zéß/]{1,200}`), rapid.Just(strings.Repeat("a", 99)), rapid.Just(strings.Repeat("a", 100))).Draw(rt, "path"),
			size: rapid.OneOf(rapid.Int64Range(0, 1<<20), rapid.Int64Range(1<<33-2, 1<<33+2)).Draw(rt, "size"),
			dir:  rapid.Bool().Draw(rt, "dir"), executable: rapid.Bool().Draw(rt, "executable"),
		}
		if n.dir {
			n.size = 0
		}
		var h headers
		header, err := h.of(n)
		if err != nil {
			return
		}
		if length, err := h.length(n); err != nil || length != int64(len(header)) {
			rt.Fatalf("%d, %v; it has %d", length, err, len(header))
		}
	})
}
