package manifest_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/shared"
)

var update = flag.Bool("update", false, "rewrite what testdata/lint wants")

// pkg is a package in memory.
type pkg map[string]string

func (p pkg) names() []string {
	var names []string
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p pkg) read(name string, most int64) ([]byte, error) {
	if int64(len(p[name])) > most {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s has %d bytes; %d are allowed", name, len(p[name]), most)
	}
	return []byte(p[name]), nil
}

func (p pkg) lint() []shared.Finding { return manifest.Lint(p.names(), p.read) }

// lines is one line for each finding.
func lines(findings []shared.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s: %s | %s\n", f.Severity, f.Where(), f.Rule, f.Message, f.Fix)
	}
	return b.String()
}

// TestLint runs over packages in the shapes that public packages have: each is an
// archive of its files, of its normal form (if it has one) and of what is found.
func TestLint(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join("testdata", "lint", "*.txtar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no packages: %v", err)
	}
	archives = append(archives, filepath.Join("..", "..", "host", "folder", "testdata", "skeleton.txtar"))
	for _, file := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files := pkg{}
			want := map[string]string{}
			for _, f := range archive.Files {
				if name, ok := strings.CutPrefix(f.Name, "want/"); ok {
					want[name] = string(f.Data)
				} else {
					files[f.Name] = string(f.Data)
				}
			}
			got := map[string]string{"findings": lines(files.lint())}
			if normal := normalOf(t, files); normal != "" {
				got["normal"] = normal
			}
			if *update {
				rewrite(t, file, archive, got)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, got map[string]string) {
	t.Helper()
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	for _, name := range []string{"normal", "findings"} {
		if text, ok := got[name]; ok {
			archive.Files = append(archive.Files, txtar.File{Name: "want/" + name, Data: []byte(text)})
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// normalOf is the normal form of a package's manifest, empty if it has none. It
// sees that reading it changes nothing.
func normalOf(t *testing.T, files pkg) string {
	t.Helper()
	file, err := manifest.Find(files.names())
	if err != nil {
		return ""
	}
	m, _ := manifest.Check(file, []byte(files[file]))
	if m == nil {
		return ""
	}
	normal := m.Normal()
	again, _, err := manifest.Parse(file, normal)
	if err != nil {
		t.Fatalf("the normal form cannot be read: %v\n%s", err, normal)
	}
	if diff := cmp.Diff(m, again); diff != "" {
		t.Fatalf("the normal form means something else:\n%s", diff)
	}
	return string(normal)
}

func TestLintSaysWhatCannotBeRead(t *testing.T) {
	for name, tc := range map[string]struct {
		files pkg
		want  string
	}{
		"nothing":       {pkg{}, "error  manifest: the folder has no manifest | "},
		"two manifests": {pkg{"package.toml": "", "pack.toml": ""}, "error  manifest: the folder has two manifests: package.toml and pack.toml | keep one of them"},
		"too large":     {pkg{"package.toml": strings.Repeat("#", manifest.MaxSize+1)}, "error package.toml manifest: package.toml has 262145 bytes; 262144 are allowed"},
		"syntax":        {pkg{"package.toml": "[package]\nname = \n"}, "error package.toml:2:"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(tc.files.lint()); !strings.HasPrefix(got, tc.want) {
				t.Fatalf("got %s want %s", got, tc.want)
			}
		})
	}
}

// TestFindingsAreBounded: who sends a manifest full of mistakes gets no longer answer.
func TestFindingsAreBounded(t *testing.T) {
	files := pkg{"package.toml": "[package]\nname = 'a'\nversion = '1.0.0'\n[package.dependencies]\n" + manyKeys(5000, "1") + "[package.inputs]\n" + manyKeys(60, "[[1]]")}
	long := pkg{"package.toml": "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['" + strings.Repeat("X", 100_000) + "']\n"}
	for _, f := range append(long.lint(), pkg{"package.toml": "x = '" + strings.Repeat("X", 100_000)}.lint()...) {
		if len(f.Message) > 1<<10 || len(f.Fix) > 4<<10 {
			t.Errorf("a finding of %d and %d bytes", len(f.Message), len(f.Fix))
		}
	}
	for i := range 200 {
		files[fmt.Sprintf("d%d/.DS_Store", i)] = ""
	}
	if got := files.lint(); len(got) != 100 {
		t.Fatalf("%d findings", len(got))
	}
}

// TestErrorsAreNotCrowdedOut by remarks that stand before them.
func TestErrorsAreNotCrowdedOut(t *testing.T) {
	var typos strings.Builder
	for i := range 26 {
		fmt.Fprintf(&typos, "%cags = 1\n%cicense = 1\n", 'A'+i, 'A'+i)
	}
	text := "[variables]\n" + manyKeys(60, "[[1]]") + "[package]\nname = 'a'\n" + typos.String() + "version = 'none'\n"
	m, findings := manifest.Check("package.toml", []byte(text))
	_, _, err := manifest.Parse("package.toml", []byte(text))
	if m != nil || len(findings) != 100 || !errors.Is(err, shared.ReasonInvalidManifest) || !strings.Contains(lines(findings), "is not a semantic version") {
		t.Fatalf("%v, %v, %d findings:\n%s", m, err, len(findings), lines(findings))
	}
}

func TestLicenses(t *testing.T) {
	for _, tc := range []struct{ license, says, fix string }{
		{"MIT", "", ""},
		{"mit", "", ""},
		{"MIT OR Apache-2.0", "", ""},
		{"GPL-3.0-or-later WITH Bison-exception-2.2 AND (MIT OR (ISC))", "", ""},
		{"LicenseRef-ours", "", ""},
		{"DocumentRef-theirs:LicenseRef-1 AND MIT", "", ""},
		{"DocumentRef-00", "not an SPDX licence", "spdx.org"},
		{"GPL-2.0+", "deprecated", "or-later"},
		{"Apache-1.0+", "", ""},
		{"GPL-3.0", "deprecated", "GPL-3.0-only"},
		{"GPL-2.0-only WITH No-such-exception", "not an SPDX licence exception", "exceptions-index"},
		{"Apache 2.0", "not an SPDX licence expression", `write "Apache-2.0"`},
		{"Apache-2", "not an SPDX licence", `write "Apache-2.0"`},
		{"the MIT License", "not an SPDX licence expression", `write "MIT"`},
		{"MIT/Apache-2.0", "not an SPDX licence expression", `write "MIT OR Apache-2.0"`},
		{"MIT, ISC", "not an SPDX licence expression", `write "MIT OR ISC"`},
		{"Proprietary", "not an SPDX licence", "LicenseRef-NAME"},
		{"MIT or ISC", "not an SPDX licence expression", "upper case"},
		{"MIT OR", "not a whole", "between licences"},
		{"(MIT", "not a whole", "spdx.org"},
		{"MIT)", "not an SPDX licence expression", "spdx.org"},
		{"MIT ISC", "not an SPDX licence expression", "spdx.org"},
		{"OR MIT", "not an SPDX licence expression", "between licences"},
		{"MIT WITH", "not an SPDX licence expression", "between licences"},
		{strings.Repeat("(", 200), "not a whole", "spdx.org"},
		{strings.Repeat("MIT+", 50), "not an SPDX licence", "spdx.org"},
		{strings.Repeat("x", 201), "has 201 bytes", "shorten"},
	} {
		t.Run(tc.license, func(t *testing.T) {
			m, findings := manifest.Check("package.toml", fmt.Appendf(nil, "[package]\nname = 'a'\nversion = '1.0.0'\nlicense = '%s'\n", tc.license))
			if m == nil || len(findings) != min(len(tc.says), 1) {
				t.Fatalf("manifest %v, findings:\n%s", m, lines(findings))
			}
			if tc.says == "" {
				return
			}
			if f := findings[0]; f.Severity != shared.SeverityWarning || f.Line != 4 || !strings.Contains(f.Message, tc.says) || !strings.Contains(f.Fix, tc.fix) {
				t.Fatalf("found %+v", f)
			}
		})
	}
}

func TestInputs(t *testing.T) {
	m, findings := manifest.Check("package.toml", []byte(`
[package]
name = "a"
version = "1.0.0"
[package.inputs]
name = { type = "string", required = true, description = "who\n is it" }
port = 8080
[variables]
name = { default = "the other place counts" }
on = { type = "bool", default = true }
`))
	if m == nil || len(findings) > 0 {
		t.Fatal(lines(findings))
	}
	want := []shared.Input{
		{Name: "name", Type: "string", Required: true, Description: "who is it"},
		{Name: "on", Type: "bool", Default: "true"},
		{Name: "port", Type: "string", Default: "8080"},
	}
	if diff := cmp.Diff(want, m.Inputs); diff != "" {
		t.Fatal(diff)
	}
	m, findings = manifest.Check("package.toml", []byte("[package]\nname = 'a'\nversion = '1.0.0'\n[variables]\n"+manyKeys(70, "1")))
	if m == nil || len(m.Inputs) != 64 || len(findings) != 1 {
		t.Fatalf("%+v\n%s", m, lines(findings))
	}
}

func FuzzNormal(f *testing.F) {
	archives, err := filepath.Glob(filepath.Join("testdata", "lint", "*.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archives {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Add([]byte("[package]\nname='a'\nversion='1.0.0'\ndescription=5\nextra={'a.b'=1,'\\u007f'='\\u007f\\u2028'}\ntags={tags=['']}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range manifest.Files() {
			m, findings := manifest.Check(file, data)
			_, _, err := manifest.Parse(file, data)
			if (m == nil) != (err != nil) || err != nil && !errors.Is(err, shared.ReasonInvalidManifest) || len(findings) > 100 {
				t.Fatalf("Check gives %v and %d findings, Parse %v", m, len(findings), err)
			}
			if m != nil {
				normalOf(t, pkg{file: string(data)})
			}
		}
	})
}

func FuzzLicense(f *testing.F) {
	for _, seed := range []string{"MIT OR (ISC AND Apache-2.0)", "((((", "GPL-2.0-only WITH Bison-exception-2.2", "MIT/ISC", "DocumentRef-a:LicenseRef-b", "A+ WITH"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, license string) {
		text := fmt.Appendf(nil, "[package]\nname = 'a'\nversion = '1.0.0'\nlicense = '%s'\n", license)
		if m, findings := manifest.Check("package.toml", text); m == nil {
			for _, finding := range findings {
				if finding.Rule == "license" && finding.Severity == shared.SeverityError {
					t.Fatalf("a licence forbids publishing: %+v", finding)
				}
			}
		}
	})
}
