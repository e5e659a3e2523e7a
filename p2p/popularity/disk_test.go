package popularity

import (
	"bytes"
	"testing"
	"time"
)

func FuzzDecode(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add(record{sum: 7.5, weight: 1.5, observed: now, heard: now, holders: []string{"12D3KooW", "Qm"}}.encode())
	f.Add(record{heard: now, holders: []string{"x"}}.encode())
	f.Add([]byte{recordFormat})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		if !bytes.Equal(r.encode(), data) {
			t.Fatalf("%x became %x", data, r.encode())
		}
		if about, _ := r.estimate(r.heard); !(about >= 0 && about <= MaxHolders) {
			t.Fatalf("about %v peers", about)
		}
		if len(r.holders) > maxKnown {
			t.Fatalf("%d holders", len(r.holders))
		}
	})
}
