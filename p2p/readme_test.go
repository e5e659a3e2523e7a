package p2p_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// stated is the release that a dry run of these files would sign.
func stated(t *testing.T, e *p2p.Engine, pairs ...string) publisher.Release {
	t.Helper()
	receipt, err := e.Publish(t.Context(), shared.PublishRequest{DryRun: true}, files(t, pairs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	var entry publisher.Entry
	if err := json.Unmarshal([]byte(receipt.Statement), &entry); err != nil {
		t.Fatal(err)
	}
	return *entry.Release
}

func TestReadmeIsPartOfTheRelease(t *testing.T) {
	e := open(t, t.TempDir())
	long := strings.Repeat("word ", 1000)
	full := manifest("full", "1.0.0")
	full += fmt.Sprintf("title = %q\nlicense = %q\n", strings.Repeat("t", 200), strings.Repeat("l", 200))
	full += fmt.Sprintf("authors = [%s]\n", strings.Repeat(fmt.Sprintf("%q,", strings.Repeat("a", 200)), 16))
	for _, list := range []string{"tags", "keywords"} {
		full += list + " = ["
		for i := range 32 {
			full += fmt.Sprintf("%q,", fmt.Sprintf("%064d", i))
		}
		full += "]\n"
	}
	full = strings.Replace(full, "test package full", strings.Repeat("ddddddddd&", 409), 1) // an & takes six bytes
	for _, tc := range []struct {
		name  string
		files []string
		want  string
	}{
		{"none", []string{"package.toml", manifest("a", "1.0.0")}, ""},
		{"the one that is called so", []string{"package.toml", manifest("a", "1.0.0"), "README.md", "# Airships\n\nBuilds a **zeppelin**.\n", "docs/README.md", "other"}, "Airships Builds a zeppelin."},
		{"the one that the manifest names", []string{"package.toml", manifest("a", "1.0.0") + "readme = \"./docs/README.md\"\n", "README.md", "one", "docs/README.md", "other"}, "other"},
		{"the manifest is wrong", []string{"package.toml", manifest("a", "1.0.0") + "readme = \"docs\"\n", "readme.txt", "one", "docs/x", "other"}, "one"},
		{"no text", []string{"package.toml", manifest("a", "1.0.0"), "README.md", "a\x00b"}, ""},
		{"a long one", []string{"package.toml", manifest("a", "1.0.0"), "README.md", long}, strings.TrimSpace(long[:510])},
		{"no room for it", []string{"package.toml", full, "README.md", strings.Repeat("&<", 200)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stated(t, e, tc.files...).Readme; got != tc.want {
				t.Fatalf("the release says %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReadmeIsFound(t *testing.T) {
	a := open(t, t.TempDir())
	home := t.TempDir()
	b := open(t, home, address(t, a))
	connected(t, b, 1)
	if _, err := a.Publish(t.Context(), shared.PublishRequest{}, files(t, "package.toml", manifest("airship", "1.0.0"), "README.md", "# Airships\n\nBuilds a **zeppelin**.\n"), nil); err != nil {
		t.Fatal(err)
	}
	finds := func(e *p2p.Engine) bool {
		result, err := e.Search(t.Context(), shared.SearchQuery{Text: "zeppelin"})
		if err != nil {
			t.Fatal(err)
		}
		return result.Total == 1 && result.Packages[0].Name == "airship"
	}
	if !finds(a) {
		t.Fatal("its publisher does not find it")
	}
	eventually(t, "another peer finds it", func() bool { return finds(b) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !finds(open(t, home)) {
		t.Fatal("it is not found after a restart")
	}
}
