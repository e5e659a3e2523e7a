package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// packageRun is a run of `ggen marketplace package` in a folder.
type packageRun struct {
	dir            string
	stdout, stderr bytes.Buffer
}

func (r *packageRun) run(t *testing.T, args ...string) exitCode {
	t.Helper()
	r.stdout.Reset()
	r.stderr.Reset()
	env := map[string]string{"GGEN_HOME": filepath.Join(r.dir, ".home"), "TEST_NETWORK": filepath.Join(r.dir, ".network")}
	p := testProgram(append([]string{"marketplace", "package"}, args...)...)
	p.dir, p.stdout, p.stderr = r.dir, &r.stdout, &r.stderr
	p.env = func(name string) string { return env[name] }
	p.engines = folderEngines{p.env}
	app := p.app()
	line, err := normalize(app, p.args)
	if err == nil {
		err = app.RunContext(t.Context(), line.args)
	}
	if err == nil {
		return exitDone
	}
	said, printed, code := outcome(t.Context(), err)
	if err := p.output(line.json, true, line.quiet, line.verbose).Fail(said, printed); err != nil {
		t.Fatal(err)
	}
	return code
}

func TestPackageNew(t *testing.T) {
	r := &packageRun{dir: t.TempDir()}
	if code := r.run(t, "new", "my-tool"); code != exitDone || !strings.Contains(r.stdout.String(), "\n  templates/hello.txt.tmpl\n") || r.stderr.Len() > 0 {
		t.Fatalf("%d\n%s%s", code, &r.stdout, &r.stderr)
	}
	if code := r.run(t, "lint", "my-tool"); code != exitDone || !strings.HasSuffix(r.stdout.String(), "0 errors, 1 warning, 0 remarks.\n") {
		t.Fatalf("%d\n%s%s", code, &r.stdout, &r.stderr)
	}
	if code := r.run(t, "new", "mine", "--kind", "gpack", "--dir", "packs/first", "--json"); code != exitDone {
		t.Fatalf("%d\n%s%s", code, &r.stdout, &r.stderr)
	}
	var got render.NewPackage
	if err := json.Unmarshal(r.stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := render.NewPackage{
		Package: "mine", Kind: "gpack", Path: filepath.Join(r.dir, "packs", "first"),
		Files: []string{".ggenignore", "README.md", "gpack.toml", "templates/hello.txt.tmpl"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	for _, tc := range []struct{ line, says string }{
		{"new my-tool", "is not empty"},
		{"new Tool", "is not allowed"},
		{"new ../x", "is not allowed"},
		{"new x --kind crate", "not a kind"},
		{"new x --dir=", "--dir is empty"},
		{"new", "NAME"},
		{"new a b", ""},
	} {
		if code := r.run(t, strings.Fields(tc.line)...); code != exitUsage || !strings.Contains(r.stderr.String(), tc.says) {
			t.Errorf("package %s: %d\n%s", tc.line, code, &r.stderr)
		}
	}
	if left, err := filepath.Glob(filepath.Join(r.dir, "*")); err != nil || len(left) != 2 {
		t.Errorf("what failed has left something: %q, %v", left, err)
	}
}

func TestPackageLint(t *testing.T) {
	r := &packageRun{dir: t.TempDir()}
	for name, text := range map[string]string{
		"broken/package.toml": "[package\n", "bad/package.toml": "[package]\nexclude = ['[']\n", "none/README.md": "",
	} {
		file := filepath.Join(r.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir, says := range map[string]string{"broken": "error: ", "bad": "exclude: ", "none": "no manifest"} {
		if code := r.run(t, "lint", dir); code != exitUsage || !strings.Contains(r.stdout.String(), says) || !strings.Contains(r.stderr.String(), dir+" cannot be published") {
			t.Errorf("lint %s: %d\n%s%s", dir, code, &r.stdout, &r.stderr)
		}
	}
	if code := r.run(t, "lint", "broken", "--json"); code != exitUsage {
		t.Errorf("%d\n%s", code, &r.stderr)
	}
	var got render.Lint
	if err := json.Unmarshal(r.stdout.Bytes(), &got); err != nil || got.OK || got.Total != 1 || got.Findings[0].Rule != "invalid_manifest" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, line := range []string{"lint nowhere", "lint a b"} {
		if code := r.run(t, strings.Fields(line)...); code != exitUsage || r.stdout.Len() > 0 {
			t.Errorf("package %s: %d\n%s%s", line, code, &r.stdout, &r.stderr)
		}
	}
}

func TestMistakeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want *shared.Finding
	}{
		"a manifest": {
			shared.NewError(shared.ReasonInvalidManifest, "publish: package.toml:3:1: the version is odd").WithHint("change it").
				With("file", "package.toml").With("line", "3").With("column", "1"),
			&shared.Finding{Severity: "error", Rule: "invalid_manifest", File: "package.toml", Line: 3, Column: 1, Message: "the version is odd", Fix: "change it"},
		},
		"a file": {
			shared.NewError(shared.ReasonInvalidPackage, "publish: it is a link").With("path", "a/b"),
			&shared.Finding{Severity: "error", Rule: "invalid_package", File: "a/b", Message: "publish: it is a link"},
		},
		"a place that is no number": {
			shared.NewError(shared.ReasonInvalidManifest, "odd").With("file", "f").With("line", "x"),
			&shared.Finding{Severity: "error", Rule: "invalid_manifest", File: "f", Message: "odd"},
		},
		"another failure": {shared.NewError(shared.ReasonEngineFailed, "it crashed"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := mistakeOf(tc.err)
			if ok != (tc.want != nil) {
				t.Fatalf("is it about the package? %v", ok)
			}
			if ok {
				if diff := cmp.Diff(*tc.want, got); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}
