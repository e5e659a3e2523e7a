package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

// names reads a folder's stream and returns the names in it.
func names(t *testing.T, dir string) ([]string, error) {
	t.Helper()
	var b bytes.Buffer
	if err := open(t, dir).writeTar(t.Context(), &b); err != nil {
		return nil, err
	}
	list, err := entries(t, &b)
	for i := range list {
		list[i], _, _ = strings.Cut(list[i], " ")
	}
	return list, err
}

func TestSelection(t *testing.T) {
	const head = "[package]\nname = 'a'\nversion = '1.0.0'\n"
	for _, tc := range []struct {
		name  string
		files string // separated by spaces, beside package.toml
		more  string // of the manifest
		rules map[string]string
		want  string // beside package.toml
	}{
		{"no rules", "a b/c .gitignore", "", nil, ".gitignore a b/c"},
		{"a name at any depth", "x.log a/x.log a/y", "", map[string]string{"": "*.log"}, "a/y"},
		{"a place", "build/x a/build/x", "", map[string]string{"": "/build"}, "a/build/x"},
		{"a slash in the middle binds too", "doc/x.tmp a/doc/x.tmp doc/y/x.tmp", "", map[string]string{"": "doc/*.tmp"}, "a/doc/x.tmp doc/y/x.tmp"},
		{"folders only", "build/x a/build", "", map[string]string{"": "build/"}, "a/build"},
		{"any depth", "a/x/y/z a/z b/z", "", map[string]string{"": "a/**/z"}, "b/z"},
		{"all in a folder", "a/x/y a/z b", "", map[string]string{"": "a/**"}, "b"},
		{"one comes back", "x.log keep.log", "", map[string]string{"": "*.log\n!keep.log"}, "keep.log"},
		{"the last one counts", "keep.log", "", map[string]string{"": "!keep.log\n*.log"}, ""},
		{"nothing comes back from a folder", "a/keep a/x", "", map[string]string{"": "a/\n!a/keep"}, ""},
		{"but from what is in it", "a/keep a/x", "", map[string]string{"": "a/*\n!a/keep"}, "a/keep"},
		{"comments, white space, line ends", "x#  y z", "", map[string]string{"": "# y\r\n\r\n   \nz  \r\n\\#\n"}, "x# y"},
		{"what has a meaning as itself", "#a !b {c} {d c d", "", map[string]string{"": "\\#a\n\\!b\n{c}\n\\{d\n"}, "c d"},
		{"sets", "a b c d", "", map[string]string{"": "[a-b]\n[!a-c]"}, "c package.toml"},
		{"a byte order mark", "a b", "", map[string]string{"": "\xef\xbb\xbfa"}, "b"},
		{"deeper files", "a/x a/b/x x", "", map[string]string{"a": "/x"}, "a/b/x x"},
		{"deeper files go before others", "a/x.log x.log", "", map[string]string{"": "*.log", "a": "!x.log"}, "a/x.log"},
		{"folders that are left empty", "a/b/x.log c", "", map[string]string{"": "*.log"}, "c"},
		{"the manifest stays", "a", "", map[string]string{"": "*"}, ""},
		{"exclude", "a.log b/a.log b/c", "exclude = ['*.log', '/b/c']", nil, ""},
		{".ggenignore goes before exclude", "a.log", "exclude = ['*.log']", map[string]string{"": "!a.log"}, "a.log"},
		{"include", "a.md src/a src/b/c src/b/d.log other/a", "include = ['src/', '/a.md', '!*.log']", nil, "a.md src/a src/b/c src/b/d.log"},
		{"include a kind", "a.md src/a.md src/b", "include = ['*.md']", nil, "a.md src/a.md"},
		{"include and exclude", "src/a src/b", "include = ['src']", map[string]string{"": "/src/b"}, "src/a"},
		{"include nothing that is there", "a", "include = ['b']", nil, ""},
		{"include of another type", "a", "include = 'b'", nil, "a"},
		{"a manifest that is not TOML", "a", "= = =\nexclude = ['a']", nil, "a"},
		{"patterns of another table", "a", "[other]\nexclude = ['a']", nil, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"package.toml": head + tc.more}
			for name := range strings.FieldsSeq(tc.files) {
				files[name] = "x"
			}
			for folder, text := range tc.rules {
				files[filepath.Join(folder, ignoreFile)] = text
			}
			write(t, dir, files)
			got, err := names(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			want := append(strings.Fields(tc.want), "package.toml")
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, slices.Compact(want)) {
				t.Fatalf("got %q, want %q", got, want)
			}
		})
	}
}

func TestEmptyFolders(t *testing.T) {
	for more, want := range map[string]string{
		"":                            "a/b/ package.toml z/",
		"include = ['z']":             "package.toml z/",
		"exclude = ['z', 'b/']":       "package.toml",
		"include = ['*.md']":          "package.toml",
		"exclude = ['/a/**', '!a/b']": "a/b/ package.toml z/",
	} {
		t.Run(more, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"package.toml": "[package]\n" + more})
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755), os.Mkdir(filepath.Join(dir, "z"), 0o755)); err != nil {
				t.Fatal(err)
			}
			if got, err := names(t, dir); err != nil || strings.Join(got, " ") != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

// TestBadRules: guessing what is meant could publish what was to be left out.
func TestBadRules(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		says  string
	}{
		"a bracket that is not closed": {map[string]string{".ggenignore": "a\n[b\n"}, ".ggenignore:2: "},
		"deeper":                       {map[string]string{"a/.ggenignore": "[b"}, "a/.ggenignore:1: "},
		"a backslash at the end":       {map[string]string{".ggenignore": `a\`}, ".ggenignore:1: "},
		"in the manifest":              {map[string]string{"pack.toml": "[pack]\nexclude = ['[a']"}, "pack.toml: exclude: "},
		"in include":                   {map[string]string{"gpack.toml": "[gpack]\ninclude = ['[a']"}, "gpack.toml: include: "},
		"a file that is too large":     {map[string]string{".ggenignore": strings.Repeat("#", maxIgnoreFile+1)}, ".ggenignore: it has 65537 bytes"},
		"too many":                     {map[string]string{".ggenignore": strings.Repeat("a\n", maxRules+1)}, ".ggenignore:4097: "},
		"a folder":                     {map[string]string{".ggenignore/x": ""}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.files)
			err := open(t, dir).writeTar(t.Context(), io.Discard)
			if !errors.Is(err, shared.ReasonInvalidPackage) || !strings.Contains(err.Error(), tc.says) || shared.AsError(err).Hint == "" {
				t.Fatalf("err = %v, want %q", err, tc.says)
			}
		})
	}
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"rules": "secret", "secret": "x"})
		if err := os.Symlink("rules", filepath.Join(dir, ignoreFile)); err != nil {
			t.Skip(err)
		}
		if err := open(t, dir).writeTar(t.Context(), io.Discard); !errors.Is(err, shared.ReasonInvalidPackage) {
			t.Fatalf("err = %v", err)
		}
	})
}

// TestLikeGit compares with git itself over random patterns, where there is a git.
// Left out is "x**", of which git (2.39) takes the letters off before it matches.
func TestLikeGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), git, "init", "-q", dir).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	folders, leaves := []string{"a", "b", "foo", "bar"}, []string{"a", "b", "foo", "x.o", "{a,b}", "!a"}
	files := map[string]string{}
	for _, x := range folders {
		files[x+"/x.o"] = ""
		for _, y := range folders {
			for _, z := range leaves {
				files[x+"/"+y+"/"+z] = ""
			}
		}
	}
	write(t, dir, files)
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		text := ""
		for range 1 + random.IntN(4) {
			text += randomPattern(random) + "\n"
		}
		inner := randomPattern(random) + "\n"
		write(t, dir, map[string]string{".gitignore": text, ignoreFile: text, "a/.gitignore": inner, "a/" + ignoreFile: inner})
		cmd := exec.CommandContext(t.Context(), git, "-C", dir, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git: %v", err)
		}
		want := strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
		want = slices.DeleteFunc(want, func(name string) bool { return filepath.Base(name) == ignoreFile })
		got, err := names(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("with\n%sand in a\n%swe publish %q\ngit keeps %q", text, inner, got, want)
		}
	}
}

func randomPattern(random *rand.Rand) string {
	parts := []string{"a", "b", "foo", "bar", "x.o", "*", "**", "*.o", "b*", "?", "[ab]", "[!a]", "fo?", "{a,b}", `\a`, `\!a`}
	pattern := ""
	for i := range 1 + random.IntN(3) {
		if i > 0 {
			pattern += "/"
		}
		pattern += parts[random.IntN(len(parts))]
	}
	if random.IntN(3) == 0 {
		pattern = "/" + pattern
	}
	if random.IntN(4) == 0 {
		pattern += "/"
	}
	if random.IntN(3) == 0 {
		pattern = "!" + pattern
	}
	return pattern
}

// FuzzRules: any file is read or refused, and what it means does not depend on
// whether it is asked twice.
func FuzzRules(f *testing.F) {
	for _, seed := range []string{"*.log\n!keep.log\n", "/build/\n", "a/**/b\n**\n", "\\#\n\\ \\ \n", "[!a-z]\n{a,b}\n", "[", "***/*a*a*a*a*a\n"} {
		f.Add(seed, "a/b/keep.log")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		if len(text) > maxIgnoreFile || len(name) > 240 {
			return
		}
		var rs rules
		for line := range strings.SplitSeq(text, "\n") {
			r, ok, err := parseRule("", line)
			if err != nil {
				return
			}
			if ok {
				rs = append(rs, r)
			}
		}
		if one, two := rs.match(name, false), rs.match(name, false); one != two {
			t.Fatal("the same question has two answers")
		}
		if rs.match(name, true) && !strings.Contains(name, "/") && !rs.matchWithin(name, true) {
			t.Fatalf("%q matches, and not within itself", name)
		}
	})
}

// FuzzManifest: no manifest breaks the stream but by a pattern that is none.
func FuzzManifest(f *testing.F) {
	f.Add([]byte("[package]\nexclude = ['a']\ninclude = [1]\n"))
	f.Add([]byte("[package]\nexclude = ['[']\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"package.toml": string(data), "a": "x"})
		got, err := names(t, dir)
		if err == nil && !slices.Contains(got, "package.toml") || err != nil && !errors.Is(err, shared.ReasonInvalidPackage) {
			t.Fatal(fmt.Sprint(got), err)
		}
	})
}
