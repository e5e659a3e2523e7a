package p2p_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

// member is a file of a bundle.
type member struct {
	name string
	data []byte
}

func readBundle(t *testing.T, file string) (members []member) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, member{header.Name, content})
	}
}

func writeBundle(t *testing.T, members []member) string {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, m := range members {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBundlesTravelWithoutANetwork: what one peer exports, a machine that has never
// seen another peer installs, and believes no byte of it unverified.
func TestBundlesTravelWithoutANetwork(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "base", "1.0.0")
	publish(t, a, "tool", "1.0.0", "base")
	publish(t, a, "other", "1.0.0")
	file := filepath.Join(t.TempDir(), "tool.bundle")
	exported, err := a.Export(t.Context(), shared.ExportRequest{File: file, Packages: []shared.Ref{{Name: "tool"}}}, nil)
	if err != nil || len(exported.Packages) != 2 || exported.Packages[0].Name != "base" {
		t.Fatalf("%+v, %v", exported, err)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != exported.Bytes {
		t.Errorf("the file: %v, %v", info, err)
	}
	alone := open(t, t.TempDir())
	for range 2 { // again is no error
		imported, err := alone.Import(t.Context(), file, nil)
		if err != nil || len(imported.Packages) != 2 {
			t.Fatalf("%+v, %v", imported, err)
		}
	}
	req := shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: t.TempDir(), Offline: true}
	if _, err := alone.Install(t.Context(), req, nil); !errors.Is(err, shared.ReasonUntrusted) {
		t.Errorf("a bundle has made somebody trusted: %v", err)
	}
	req.Trust = true
	if _, err := alone.Install(t.Context(), req, nil); err != nil {
		t.Errorf("install from a bundle: %v", err)
	}
	req.Packages[0].Name = "other"
	if _, err := alone.Install(t.Context(), req, nil); !errors.Is(err, shared.ReasonOffline) {
		t.Errorf("what is not in the bundle: %v", err)
	}
	t.Run("an older bundle takes nothing back", func(t *testing.T) {
		publish(t, a, "tool", "1.1.0", "base")
		newer := filepath.Join(t.TempDir(), "newer")
		if _, err := a.Export(t.Context(), shared.ExportRequest{File: newer, Packages: []shared.Ref{{Name: "tool"}}}, nil); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{newer, file} {
			if _, err := alone.Import(t.Context(), f, nil); err != nil {
				t.Fatal(err)
			}
		}
		if details, err := alone.Describe(t.Context(), shared.Ref{Name: "tool"}); err != nil || details.Version != "1.1.0" {
			t.Errorf("%+v, %v", details, err)
		}
	})
	whole := readBundle(t, file)
	for name, c := range map[string]struct {
		spoil  func([]member) []member
		reason shared.Reason
		says   string
	}{
		"a log that was changed": {func(m []member) []member {
			m[1].data = bytes.Replace(m[1].data, []byte("test package tool"), []byte("evil package tool"), 1)
			return m
		}, shared.ReasonIntegrity, "a log in the bundle does not hold"},
		"content that was changed": {func(m []member) []member {
			last := &m[len(m)-1]
			last.data = append([]byte(nil), last.data...)
			last.data[len(last.data)/2] ^= 1
			return m
		}, shared.ReasonIntegrity, "the content is"},
		"content of nobody": {func(m []member) []member {
			data := []byte("malware")
			return append(m, member{"blob/" + shared.DigestOf(data).Hex(), data})
		}, shared.ReasonIntegrity, "that no release in it has"},
		"content that is missing": {func(m []member) []member { return m[:len(m)-1] }, shared.ReasonIntegrity, "does not hold all of it"},
		"logs that are missing":   {func(m []member) []member { return append(m[:1:1], m[2:]...) }, shared.ReasonIntegrity, "no log in it has that release"},
		"no list of contents":     {func(m []member) []member { return m[1:] }, shared.ReasonInvalidArgument, "does not begin with a list"},
		"another order":           {func(m []member) []member { return append(append(m[:1:1], m[2:]...), m[1]) }, shared.ReasonIntegrity, "no log in it"},
		"a path upwards":          {func(m []member) []member { return append(m, member{"../../etc/passwd", nil}) }, shared.ReasonInvalidArgument, "is no part of one"},
	} {
		t.Run(name, func(t *testing.T) {
			members := make([]member, len(whole))
			copy(members, whole)
			victim := open(t, t.TempDir())
			_, err := victim.Import(t.Context(), writeBundle(t, c.spoil(members)), nil)
			if !errors.Is(err, c.reason) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
		})
	}
	t.Run("a file that is cut off anywhere", func(t *testing.T) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		victim := open(t, t.TempDir())
		for _, cut := range []int{0, 100, 600, len(data) / 2, len(data) - 3000} {
			short := filepath.Join(t.TempDir(), "short")
			if err := os.WriteFile(short, data[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := victim.Import(t.Context(), short, nil); err == nil {
				t.Errorf("%d of %d bytes are accepted", cut, len(data))
			}
		}
	})
}

// TestProve goes from a file's digest to the publisher's first document.
func TestProve(t *testing.T) {
	a := open(t, t.TempDir())
	receipt := publish(t, a, "tool", "1.0.0")
	publish(t, a, "tool", "1.1.0")
	publish(t, a, "other", "1.0.0")
	p, err := a.Prove(t.Context(), shared.Ref{Name: "tool", Constraint: "1.0.0"}, "templates/tool.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "1.0.0" || p.Publisher != receipt.Publisher || p.Archive != receipt.Digest || p.Entry != 0 || p.LogSize != 3 || p.PathLength == 0 || p.Rule != shared.RulePin {
		t.Errorf("%+v", p)
	}
	if p.File.Digest != shared.DigestOf([]byte("content of tool 1.0.0")) {
		t.Errorf("file %+v", p.File)
	}
	if len(p.Roots) != 1 || p.Roots[0].Digest.Hex() != string(receipt.Publisher) || len(p.Roots[0].Keys) != 1 {
		t.Errorf("roots %+v", p.Roots)
	}
	if p, err := a.Prove(t.Context(), shared.Ref{Name: "tool"}, ""); err != nil || p.Version != "1.1.0" || p.File.Path != "" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := a.Prove(t.Context(), shared.Ref{Name: "tool"}, "no/such"); !errors.Is(err, shared.ReasonNotFound) {
		t.Errorf("got %v", err)
	}
}
