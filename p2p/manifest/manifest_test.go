package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/shared"
)

func TestParseNormalises(t *testing.T) {
	got, err := manifest.Parse("package.toml", []byte(`
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
		Extra:        map[string]string{"edition": "2021"},
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
		{"no name", "[package]\nversion = '1.0.0'\n", "[package] has no name", ""},
		{"no version", "[package]\nname = 'a'\n", "[package] has no version", ""},
		{"name of another type", "[package]\nname = 1\nversion = '1.0.0'\n", "name is not a string", ""},
		{"name", "[package]\nname = 'A'\nversion = '1.0.0'\n", `"A" is not allowed`, ""},
		{"version", "[package]\nname = 'a'\nversion = 'v1'\n", "not a semantic version", ""},
		{"pessimistic operator", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@~>1.2']\n", "~>", ""},
		{"range", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@nonsense']\n", "not a version range", ""},
		{"dependency", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['B']\n", `"B"`, ""},
		{"contradiction", "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@1', 'b@2']\n", "named twice", ""},
		{"size", "[package]\n#" + strings.Repeat("x", manifest.MaxSize), "bytes", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := manifest.Parse("package.toml", []byte(tc.toml))
			if !errors.Is(err, shared.ReasonInvalidManifest) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if meta := shared.AsError(err).Metadata; meta["file"] != "package.toml" || meta["line"] != tc.line {
				t.Fatalf("metadata %v", meta)
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
			if _, err := manifest.Parse("package.toml", []byte("[package]\nname='a'\nversion='1.0.0'\n[z]\n"+toml)); err != nil {
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
	_, err = manifest.Parse(file, data)
	return err
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@^1']\n"))
	f.Add([]byte("[package]\nname='a'\nversion='1.0.0'\n[package.tags]\ntags=['x']\n"))
	f.Add([]byte("x = {\"\"\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse("package.toml", data)
		if err != nil {
			if !errors.Is(err, shared.ReasonInvalidManifest) {
				t.Fatalf("reason of %v", err)
			}
			return
		}
		if shared.CheckName(m.Name) != nil || m.Version == "" {
			t.Fatalf("accepted %+v", m)
		}
	})
}
