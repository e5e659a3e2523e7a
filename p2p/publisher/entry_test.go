package publisher_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
)

func TestParseEntry(t *testing.T) {
	id := strings.Repeat("a", 64)
	content := `{"digest":"sha256:` + strings.Repeat("b", 64) + `","size":1}`
	release := `{"name":"pack","version":"1.0.0","files":1,"archive":` + content + `,"index":` + content + `}`
	head := fmt.Sprintf(`"publisher":%q,"time":1000000000`, id)
	for _, tc := range []struct {
		name  string
		entry string
		want  error
		plain bool // without effect
	}{
		{"a release", `{"v":1,"kind":"release",` + head + `,"release":` + release + `}`, nil, false},
		{"a field of a newer version", `{"v":1,"kind":"release",` + head + `,"release":` + release + `,"signed_off":{"by":["me"]}}`, nil, false},
		{"the beginning of a readme", `{"v":1,"kind":"release",` + head + `,"release":` + withReadme(release, "It greets."+strings.Repeat("x", 502)) + `}`, nil, false},
		{"more of a readme", `{"v":1,"kind":"release",` + head + `,"release":` + withReadme(release, strings.Repeat("x", 513)) + `}`, publisher.ErrInvalid, false},
		{"a readme with control characters", `{"v":1,"kind":"release",` + head + `,"release":` + withReadme(release, `\u001b[31m`) + `}`, publisher.ErrInvalid, false},
		{"a readme that is no text", `{"v":1,"kind":"release",` + head + `,"release":` + strings.Replace(release, `"files":1`, `"readme":["x"],"files":1`, 1) + `}`, publisher.ErrInvalid, false},
		{"a key twice", `{"v":1,"kind":"release",` + head + `,"kind":"yank","release":` + release + `}`, publisher.ErrInvalid, false},
		{"a key of other case", `{"v":1,"Kind":"release",` + head + `,"release":` + release + `}`, publisher.ErrInvalid, false},
		{"a key twice inside", `{"v":1,"kind":"release",` + head + `,"release":` + strings.Replace(release, `"files":1`, `"files":1,"files":2`, 1) + `}`, publisher.ErrInvalid, false},
		{"a key of other case inside", `{"v":1,"kind":"release",` + head + `,"release":` + strings.Replace(release, `"files"`, `"Files"`, 1) + `}`, publisher.ErrInvalid, false},
		{"an escaped key", `{"v":1,"kind":"release","\u006bind":"yank",` + head + `,"release":` + release + `}`, publisher.ErrInvalid, false},
		{"more than one value", `{"v":1,"kind":"x",` + head + `}{}`, publisher.ErrInvalid, false},
		{"an array", `[{"v":1,"kind":"x",` + head + `}]`, publisher.ErrInvalid, false},
		{"no format", `{"kind":"release",` + head + `,"release":` + release + `}`, publisher.ErrInvalid, false},
		{"no release in a release", `{"v":1,"kind":"release",` + head + `}`, publisher.ErrInvalid, false},
		{"a null release", `{"v":1,"kind":"release",` + head + `,"release":null}`, publisher.ErrInvalid, false},
		{"a future format", `{"v":2,"kind":"release",` + head + `,"release":"elsewhere","Extra":1}`, publisher.ErrInvalid, false},
		{"a future format with plain keys", `{"v":2,"kind":"release",` + head + `,"release":"elsewhere","extra":{"Free":1,"free":2}}`, nil, true},
		{"a future format that looks like ours", `{"v":2,"kind":"release",` + head + `,"release":` + release + `}`, nil, true},
		{"a release in a yank", `{"v":1,"kind":"yank",` + head + `,"release":` + release + `}`, publisher.ErrInvalid, false},
		{"an unknown kind", `{"v":1,"kind":"delegate",` + head + `,"release":{"name":5},"yank":7}`, nil, true},
		{"a future format without a publisher", `{"v":2,"kind":"release","time":1000000000}`, publisher.ErrInvalid, false},
		{"a time that overflows", `{"v":1,"kind":"x",` + strings.Replace(head, "1000000000", "9223372036854775807", 1) + `}`, publisher.ErrInvalid, false},
		{"a time ahead of our clock", `{"v":1,"kind":"x",` + strings.Replace(head, "1000000000", "100000000000", 1) + `}`, publisher.ErrStale, false},
		{"deep nesting", `{"v":1,"kind":"release",` + head + `,"release":` + release + `,"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, publisher.ErrInvalid, false},
		{"thousands of keys", `{"v":1,"kind":"x",` + head + manyKeys(1000) + `}`, publisher.ErrInvalid, false},
		{"invalid UTF-8", `{"v":1,"kind":"x",` + head + `,"x":"` + "\xff" + `"}`, publisher.ErrInvalid, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := publisher.ParseEntry([]byte(tc.entry), fuzzTime)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err == nil && (e.Release == nil && e.Yank == nil) != tc.plain {
				t.Fatalf("got %+v", e)
			}
			if err != nil {
				return
			}
			if again, err := publisher.DecodeEntry([]byte(tc.entry)); err != nil || fmt.Sprint(again.Kind, again.Time, again.Publisher) != fmt.Sprint(e.Kind, e.Time, e.Publisher) {
				t.Fatalf("decodes to %+v, %v", again, err)
			}
		})
	}
}

func withReadme(release, text string) string {
	return strings.Replace(release, `"files":1`, `"readme":"`+text+`","files":1`, 1)
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":0`, i)
	}
	return b.String()
}

func TestBuildMetadata(t *testing.T) {
	body := typical("pack", "1.0.0+linux")
	entry := publisher.Entry{Kind: publisher.KindRelease, Publisher: idOf(t, newKey(t)), Time: time.Now().Unix(), Release: &body}
	if _, err := entry.Encode(); err == nil || !strings.Contains(err.Error(), `leave out "+linux"`) {
		t.Fatalf("got %v", err)
	}
}
