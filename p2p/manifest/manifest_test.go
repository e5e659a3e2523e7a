package manifest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/shared"
)

func TestParseNormalises(t *testing.T) {
	got, _, err := manifest.Parse("package.toml", []byte(`
[package]
name = "full"
full_name = "ggen/full"
version = "1.2.3-rc.1"
description = """
Two
 lines."""
author = "A"
license = "MIT"
categories = ["cli", "web"]
dependencies = ["b@^1.2", "a"]
homepage = "https://example.org"
edition = "2021"
[package.tags]
tags = ["x", "y"]
[package.keywords]
keywords = ["k"]
[package.metadata]
deep = true
list = ["kept", 2]
lists = [["dropped"]]
released = 2026-11-23
[package.metadata.deeper]
count = 3
[dependencies]
serde = "1.0" # a crate, not a package
[marketplace.dependencies]
c = { version = ">=1, <2", optional = true }
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest.Manifest{
		File: "package.toml", Name: "full", Title: "ggen/full", Version: "1.2.3-rc.1", Description: "Two lines.", Authors: []string{"A"},
		License: "MIT", Category: "cli", Tags: []string{"x", "y"}, Keywords: []string{"k"}, Repository: "https://example.org",
		Dependencies: []shared.Dependency{{Name: "a"}, {Name: "b", Constraint: "^1.2"}, {Name: "c", Constraint: ">=1, <2", Optional: true}},
		Extra:        map[string]string{"edition": "2021", "categories": "cli, web", "metadata.list": "kept, 2", "metadata.deep": "true", "metadata.released": "2026-11-23", "metadata.deeper.count": "3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, toml, says, line string }{
		{"syntax", "[package]\nname = \n", "package.toml:2:", "2"},
		{"inline table over lines", "[package]\nname='a'\nversion='1.0.0'\nx = {\n a = 1 }\n", "package.toml:4:6: an inline table", "4"},
		{"comma at the end of an inline table", "[package]\nname='a'\nversion='1.0.0'\nx = { a = 1, }\n", "package.toml:4:14: an inline table ends with a comma", "4"},
		{"no table", "name = 'a'\n", "no table [package]", ""},
		{"no name", "[package]\nversion = '1.0.0'\n", "package.toml:1:2: [package] has no name", "1"},
		{"no version", "[package]\nname = 'a'\n", "[package] has no version", "1"},
		{"name of another type", "[package]\nname = 1\nversion = '1.0.0'\n", "name is not a string", "2"},
		{"name", "[package]\nname = 'A'\nversion = '1.0.0'\n", `package.toml:2:1: the package name "A" is not allowed`, "2"},
		{"version", "[package]\nname = 'a'\nversion = 'v1'\n", "package.toml:3:1: \"v1\" is not a semantic version", "3"},
		{"pessimistic operator", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@~>1.2']\n", "package.toml:4:17: the operator ~>", "4"},
		{"range", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@nonsense']\n", "not a version range", "4"},
		{"dependency", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['B']\n", `"B"`, "4"},
		{"contradiction", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@1', 'b@2']\n", "package.toml:4:24: dependency b is named twice", "4"},
		{"long version", "[package]\nname = 'a'\nversion = '1.0.0-" + strings.Repeat("x", 100) + "'\n", "64 are allowed", "3"},
		{"another table", "[pack]\nname = 'a'\nversion = '1.0.0'\n", "no table [package]", ""},
		{"dependency of another type", "[package]\nname = 'a'\nversion = '1.0.0'\n[package.dependencies]\nb = 1\n", "package.toml:5:1: the dependency b is neither a range nor a table", "5"},
		{"list of another type", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = [1]\n", "not a string", "4"},
		{"abbreviated publisher", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['0123456789ab/b@1']\n", "not a whole ID", "4"},
		{"dependencies of another type", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = 'b'\n", "neither a list nor a table", "4"},
		{"itself", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['a']\n", "depends on itself", "4"},
		{"range of ggen", "[package]\nname = 'a'\nversion = '1.0.0'\nggen = 'new'\n", "package.toml:4:1: \"new\" is not a version range", "4"},
		{"patterns of another type", "[package]\nname = 'a'\nversion = '1.0.0'\nexclude = 'secret'\n", "exclude is not a list", "4"},
		{"pattern of another type", "[package]\nname = 'a'\nversion = '1.0.0'\ninclude = ['a',\n 1]\n", "package.toml:5:2: include holds", "5"},
		{"empty pattern", "[package]\nname = 'a'\nversion = '1.0.0'\ninclude = ['']\n", "include holds", "4"},
		{"many patterns", "[package]\nname = 'a'\nversion = '1.0.0'\ninclude = [" + strings.Repeat("'a',", 257) + "]\n", "257 patterns; 256 are allowed", "4"},
		{"many dependencies", "[package]\nname = 'a'\nversion = '1.0.0'\n[package.dependencies]\n" + manyKeys(129, "'*'"), "129 dependencies; 128 are allowed", "4"},
		{"nesting", "a = " + strings.Repeat("[", 100_000), "levels deep", "1"},
		{"size", "[package]\n#" + strings.Repeat("x", manifest.MaxSize), "bytes", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := manifest.Parse("package.toml", []byte(tc.toml))
			if !errors.Is(err, shared.ReasonInvalidManifest) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if meta := shared.AsError(err).Metadata; meta["file"] != "package.toml" || meta["line"] != tc.line {
				t.Fatalf("metadata %v", meta)
			}
		})
	}
}

// manyKeys writes a table of n keys.
func manyKeys(n int, value string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%03d = %s\n", i, value)
	}
	return b.String()
}

func TestAllThreeFormsAreRead(t *testing.T) {
	publisher := strings.Repeat("0123456789abcdef", 4)
	for file, table := range map[string]string{"package.toml": "package", "gpack.toml": "gpack", "pack.toml": "pack"} {
		t.Run(file, func(t *testing.T) {
			m, _, err := manifest.Parse(file, []byte("["+table+"]\nname = 'a'\nversion = '26.7.30'\nauthors = ['A', 'B']\ndependencies = ['"+publisher+"/b@~1.2']\n"))
			if err != nil {
				t.Fatal(err)
			}
			want := &manifest.Manifest{
				File: file, Name: "a", Title: "a", Version: "26.7.30", Authors: []string{"A", "B"},
				Dependencies: []shared.Dependency{{Publisher: shared.PublisherID(publisher), Name: "b", Constraint: "~1.2"}},
			}
			if diff := cmp.Diff(want, m); diff != "" {
				t.Fatal(diff)
			}
		})
	}
	if _, _, err := manifest.Parse("package.json", []byte("{}")); !errors.Is(err, shared.ReasonInvalidManifest) {
		t.Fatalf("package.json: %v", err)
	}
}

func TestDependencyTables(t *testing.T) {
	publisher := strings.Repeat("0123456789abcdef", 4)
	m, _, err := manifest.Parse("package.toml", []byte(`
[package]
name = "a"
version = "1.0.0"
[package.dependencies]
any = "*"
b = "^1.2"
c = { version = "=2.0.0", optional = true, publisher = "`+publisher+`" }
[marketplace.dependencies]
b = "^1.2" # the same again is no contradiction
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []shared.Dependency{
		{Name: "any"},
		{Name: "b", Constraint: "^1.2"},
		{Publisher: shared.PublisherID(publisher), Name: "c", Constraint: "=2.0.0", Optional: true},
	}
	if diff := cmp.Diff(want, m.Dependencies); diff != "" {
		t.Fatal(diff)
	}
}

// TestUnknownValuesAreBounded: they travel with every description of the package.
func TestUnknownValuesAreBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("[package]\nname = 'a'\nversion = '1.0.0'\n")
	fmt.Fprintf(&text, "long = '%s'\n", strings.Repeat("x", 300))
	fmt.Fprintf(&text, "%s = 1\n", strings.Repeat("k", 65))
	for i := range 1000 {
		fmt.Fprintf(&text, "n%03d = %d\n", i, i)
	}
	fmt.Fprintf(&text, "[package.%s]\nx = 1\n", strings.Repeat("d.", 9)+"d")
	m, _, err := manifest.Parse("package.toml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Extra) != 64 {
		t.Fatalf("%d values are kept", len(m.Extra))
	}
	if got := m.Extra["long"]; len(got) != 256 || !strings.HasSuffix(got, "x…") {
		t.Fatalf("long = %s", got)
	}
	delete(m.Extra, "long")
	for key, value := range m.Extra {
		if !strings.HasPrefix(key, "n") || len(value) > 3 {
			t.Fatalf("%s = %s is kept", key, value)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		names []string
		want  string
		says  string
	}{
		{"one", []string{"README.md", "gpack.toml"}, "gpack.toml", ""},
		{"two", []string{"pack.toml", "package.toml"}, "", "two manifests: package.toml and pack.toml"},
		{"three", []string{"pack.toml", "package.toml", "gpack.toml"}, "", "three manifests: package.toml and gpack.toml and pack.toml"},
		{"a foreign one", []string{"package.json", "x"}, "", "package.json is there, which is not one"},
		{"none", nil, "", "has no manifest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := manifest.Find(tc.names)
			if got != tc.want || (err != nil) != (tc.says != "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (!errors.Is(err, shared.ReasonInvalidManifest) || !strings.Contains(err.Error(), tc.says) || shared.AsError(err).Hint == "") {
				t.Fatalf("got %v, want %q and a hint", err, tc.says)
			}
		})
	}
}

func TestInlineTablesAreFoundWhereTheyAre(t *testing.T) {
	for name, toml := range map[string]string{
		"array over lines in an inline table": "x = { a = [\n1,\n2,\n] }\n",
		"braces in strings":                   "x = \"{\\\"\n\"\"\"\ny = '{'\n",
		"braces in a multi-line string":       "x = \"\"\"{\n}\"\"\"\ny = '''{\n'''\n",
		"braces in comments":                  "x = 1 # {\ny = 2\n",
		"five quotes at the end":              "x = \"\"\"{\"\"\"\"\"\ny = 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "braces in strings") {
				toml = "x = \"{\\\"\"\ny = '{'\n"
			}
			if _, _, err := manifest.Parse("package.toml", []byte("[package]\nname='a'\nversion='1.0.0'\n[z]\n"+toml)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRealPackages runs over the collection of public packages where it is there.
func TestRealPackages(t *testing.T) {
	collection := filepath.Join("..", "..", "..", "shared", "packages")
	folders, err := os.ReadDir(collection)
	if err != nil {
		t.Skip("the collection of real packages is not beside this checkout")
	}
	refused := map[string]string{
		"rest-api-template":          "package.toml:35:15: an inline table",
		"notification-messaging-hub": "package.json is there",
	}
	for _, folder := range folders {
		t.Run(folder.Name(), func(t *testing.T) {
			err := parseFolder(t, filepath.Join(collection, folder.Name()))
			want := refused[folder.Name()]
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want %q", err, want)
			}
		})
	}
}

func parseFolder(t *testing.T, dir string) error {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	file, err := manifest.Find(names)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = manifest.Parse(file, data)
	return err
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@^1']\n"))
	f.Add([]byte("[package]\nname='a'\nversion='1.0.0'\n[package.tags]\ntags=['x']\n"))
	f.Add([]byte("x = {\"\"\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _, err := manifest.Parse("package.toml", data)
		if err != nil {
			if !errors.Is(err, shared.ReasonInvalidManifest) {
				t.Fatalf("reason of %v", err)
			}
			return
		}
		if shared.CheckName(m.Name) != nil || m.Version == "" || len(m.Extra) > 64 {
			t.Fatalf("accepted %+v", m)
		}
		for _, dep := range m.Dependencies {
			if shared.CheckName(dep.Name) != nil || strings.Contains(dep.Constraint, "~>") {
				t.Fatalf("accepted the dependency %+v", dep)
			}
		}
	})
}
