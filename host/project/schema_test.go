package project

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
)

func lockfileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "schemas", "files", "ggen.lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// follows tells whether a text is TOML that a schema accepts.
func follows(t testing.TB, schema *jsonschema.Schema, text []byte) bool {
	t.Helper()
	var decoded map[string]any
	if toml.Unmarshal(text, &decoded) != nil {
		return false
	}
	data, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document) == nil
}

// TestLockfileSchema: what other programs read of the schema is what this one does.
func TestLockfileSchema(t *testing.T) {
	schema := lockfileSchema(t)
	t.Run("everything that is written follows it", func(t *testing.T) {
		rapid.Check(t, func(r *rapid.T) {
			var l Lockfile
			for _, pkg := range rapid.SliceOfN(rapid.Custom(genLocked), 0, 5).Draw(r, "packages") {
				l = l.With(pkg)
			}
			text, err := l.Bytes()
			if err != nil {
				r.Fatal(err)
			}
			if !follows(t, schema, text) {
				r.Fatalf("the schema refuses\n%s", text)
			}
		})
	})
	good, err := Lockfile{Packages: []shared.LockedPackage{locked("base"), locked("pack", "base")}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string][2]string{
		"nothing":              {"", ""},
		"an unknown key":       {"version = 1", "version = 1\nmore = 1"},
		"another format":       {"version = 1", "version = 2"},
		"no format":            {"version = 1", ""},
		"a key in a package":   {"digest = ", "more = 1\ndigest = "},
		"no digest":            {"digest = ", "# digest = "},
		"a short digest":       {"digest = \"sha256:", "digest = \"sha256:ab"},
		"a name that is none":  {"name = \"pack\"", "name = \"Pack\""},
		"a long name":          {"name = \"pack\"", "name = \"" + strings.Repeat("p", 65) + "\""},
		"a version with a v":   {"version = \"1.0.0\"", "version = \"v1.0.0\""},
		"a version of 2 parts": {"version = \"1.0.0\"", "version = \"1.0\""},
		"a leading zero":       {"version = \"1.0.0\"", "version = \"1.00.0\""},
		"a pre-release":        {"version = \"1.0.0\"", "version = \"1.0.0-rc.1+b\""},
		"a short publisher":    {"publisher = \"abab", "publisher = \"ab"},
		"a dependency by path": {"  \"base\",", "  \"../base\","},
		"dependencies missing": {"dependencies = [", "# dependencies = ["},
	} {
		text := bytes.Replace(good, []byte(spoil[0]), []byte(spoil[1]), 1)
		_, err := ParseLockfile("ggen.lock", text)
		if accepted := follows(t, schema, text); accepted != (err == nil) {
			t.Errorf("%s: the schema accepts: %v; the parser says %v", name, accepted, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join("..", "..", "docs", "schemas", "README.md")); err != nil || !bytes.Contains(data, []byte("files/ggen.lock.json")) {
		t.Errorf("the README does not mention it: %v", err)
	}
}
