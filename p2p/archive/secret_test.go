package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

// privateKey is the beginning of one, in two parts so that this file holds none.
const privateKey = "-----BEGIN PRIVATE" + " KEY-----\n"

func TestSecretsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, content string
		what          string // empty: it may be published
	}{
		{".env", "", "settings"},
		{"a/b/.env", "A=1", "settings"},
		{".ENV", "A=1", "settings"},
		{".env.local", "A=1", "settings"},
		{".env.production.local", "A=1", "settings"},
		{".env.example", "A=", ""},
		{".env.production.example", "A=", ""},
		{".env.sample", "A=", ""},
		{".env.template", "A=", ""},
		{"templates/.env.tmpl", "A={{ a }}", ""},
		{"env", "A=1", ""},
		{"my.env", "A=1", ""},
		{".environment", "A=1", ""},
		{".env/file", "a folder of that name", ""},
		{"id_rsa", "x", "private key of SSH"},
		{"keys/id_ed25519", "x", "private key of SSH"},
		{"keys/id_ed25519.pub", "x", ""},
		{".netrc", "x", "passwords"},
		{"_netrc", "x", "passwords"},
		{".aws/credentials", "x", "keys of AWS"},
		{"home/.aws/credentials", "x", "keys of AWS"},
		{".aws/config", "x", ""},
		{"docs/credentials", "x", ""},
		{"server.pem", privateKey, "private key"},
		{"server.KEY", strings.Repeat("-", 100_000) + privateKey, "private key"},
		{"far.key", strings.Repeat("-", 1<<20) + privateKey, ""},
		{"server.pem", "-----BEGIN RSA PRIVATE" + " KEY-----\n", "private key"},
		{"chain.pem", "-----BEGIN CERTIFICATE-----\n", ""},
		{"empty.key", "", ""},
		{"about-keys.md", privateKey, ""},
		{".npmrc", "//registry.example.org/:_authToken=abc", "token of npm"},
		{".npmrc", "a=1\n_password = abc\n", "token of npm"},
		{".npmrc", "//registry.example.org/:_authToken=${TOKEN}", ""},
		{".npmrc", "# _authToken=abc\nregistry=https://example.org", ""},
	} {
		t.Run(strings.ReplaceAll(fmt.Sprintf("%.40s %.10s", tc.name, tc.content), "/", "_"), func(t *testing.T) {
			scratch := t.TempDir()
			packed, err := archive.Pack(t.Context(), stream(t, file(tc.name, tc.content), file("package.toml", "")), scratch, archive.Limits{}, nil)
			if tc.what == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := packed.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			typed := shared.AsError(err)
			if !errors.Is(err, shared.ReasonInvalidPackage) || typed.Metadata["path"] != tc.name || !strings.Contains(typed.Message, tc.what) {
				t.Fatalf("err = %v (%+v), want %q", err, typed, tc.what)
			}
			for _, way := range []string{".ggenignore", "`exclude`", "/" + tc.name} {
				if !strings.Contains(typed.Hint, way) {
					t.Errorf("the hint does not name %s: %s", way, typed.Hint)
				}
			}
			isEmpty(t, scratch)
		})
	}
}

// TestInspectTellsAllProblems: what Pack would refuse one by one.
func TestInspectTellsAllProblems(t *testing.T) {
	link := file("link", "")
	link.header.Typeflag, link.header.Linkname = tar.TypeSymlink, "/etc/passwd"
	scratch := t.TempDir()
	packed, problems, err := archive.Inspect(t.Context(), stream(t,
		link, file(".env", "A=1"), file("a/../b", "x"), file("package.toml", "the manifest"), file("nul", "x"),
		file("k.pem", privateKey), file("PACKAGE.toml", "twice"), file("z", "last"),
	), scratch, archive.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, p := range problems {
		paths = append(paths, p.Metadata["path"])
	}
	if want := []string{"link", ".env", "a/../b", "nul", "k.pem", "PACKAGE.toml"}; !slices.Equal(paths, want) {
		t.Fatalf("problems with %q, want %q", paths, want)
	}
	for name, want := range map[string]string{"package.toml": "the manifest", "z": "last", "k.pem": privateKey} {
		if got, err := packed.ReadFile(name, 1000); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if len(packed.Index.Files) != 3 {
		t.Errorf("it holds %v", packed.Index.Files)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	isEmpty(t, scratch)
}

func TestInspectIsBounded(t *testing.T) {
	var items []item
	for i := range 101 {
		items = append(items, file(fmt.Sprintf("d%d/.env", i), "A=1"))
	}
	scratch := t.TempDir()
	inspect := func(items ...item) (*archive.Packed, int, error) {
		packed, problems, err := archive.Inspect(t.Context(), stream(t, items...), scratch, archive.Limits{Files: 200, Bytes: 1 << 20}, nil)
		return packed, len(problems), err
	}
	if packed, problems, err := inspect(items[:100]...); packed != nil || problems != 100 || err != nil {
		t.Errorf("100 problems: %v, %d, %v", packed, problems, err)
	}
	if packed, problems, err := inspect(items...); packed != nil || problems != 100 || !errors.Is(err, shared.ReasonInvalidPackage) {
		t.Errorf("101 problems: %v, %d, %v", packed, problems, err)
	}
	if packed, _, err := inspect(file("large", strings.Repeat("x", 2<<20))); packed != nil || !errors.Is(err, shared.ReasonLimitExceeded) {
		t.Errorf("too large: %v, %v", packed, err)
	}
	if packed, _, err := inspect(); packed != nil || !errors.Is(err, shared.ReasonInvalidPackage) {
		t.Errorf("nothing: %v, %v", packed, err)
	}
	isEmpty(t, scratch)
}

// FuzzInspect: it finds a problem exactly when Pack does, and leaves nothing behind.
func FuzzInspect(f *testing.F) {
	for _, items := range [][]item{oddTree(), {file(".env", "A=1"), file("k.pem", privateKey)}, {file("a", ""), file("A", "")}} {
		var b bytes.Buffer
		if _, err := b.ReadFrom(stream(f, items...)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		scratch := t.TempDir()
		limits := archive.Limits{Files: 100, Bytes: 1 << 20}
		packed, packErr := archive.Pack(t.Context(), bytes.NewReader(data), scratch, limits, nil)
		inspected, problems, err := archive.Inspect(t.Context(), bytes.NewReader(data), scratch, limits, nil)
		if (packErr != nil) != (err != nil || len(problems) > 0) {
			t.Fatalf("Pack: %v, Inspect: %v, %v", packErr, problems, err)
		}
		if packErr == nil && packed.Index.Digest != inspected.Index.Digest {
			t.Fatalf("Pack makes %s, Inspect %s", packed.Index.Digest, inspected.Index.Digest)
		}
		for _, p := range []*archive.Packed{packed, inspected} {
			if p == nil {
				continue
			}
			if err := p.Close(); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		isEmpty(t, scratch)
	})
}
