package folder

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ggen.dev/marketplace/shared"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *Folder {
	t.Helper()
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// entries reads a stream to its end: "name content" or "name -> target".
func entries(t *testing.T, r io.Reader) ([]string, error) {
	t.Helper()
	var list []string
	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return list, err
		}
		if header.Uname != "" || header.Uid != 0 || !header.ModTime.IsZero() && header.ModTime.Unix() != 0 {
			t.Errorf("%s tells who made it, or when: %+v", header.Name, header)
		}
		switch {
		case header.Typeflag == tar.TypeSymlink:
			list = append(list, header.Name+" -> "+header.Linkname)
		case header.Typeflag == tar.TypeReg && header.Mode&0o111 != 0:
			list = append(list, header.Name+"* "+string(content))
		default:
			list = append(list, strings.TrimSpace(header.Name+" "+string(content)))
		}
	}
}

func TestTar(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"b.txt": "b", "a/run.sh": "x", ".git/config": "no", ".ggen/state": "no", "a/.git/config": "nested", ".gitignore": "*"})
	if err := errors.Join(os.Chmod(filepath.Join(dir, "a", "run.sh"), 0o755), os.Mkdir(filepath.Join(dir, "empty"), 0o755)); err != nil {
		t.Fatal(err)
	}
	want := ".gitignore *|a/.git/config nested|a/run.sh* x|b.txt b|empty/"
	if os.Symlink("/etc/passwd", filepath.Join(dir, "z")) == nil {
		want += "|z -> /etc/passwd"
	}
	s := open(t, dir).Tar(t.Context())
	got, err := entries(t, s)
	if err != nil || strings.Join(got, "|") != want {
		t.Fatalf("%v\n got %q\nwant %q", err, strings.Join(got, "|"), want)
	}
	// Again from the start, in the middle of it too.
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, s, 600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if again, err := entries(t, s); err != nil || strings.Join(again, "|") != want {
		t.Fatalf("the second time: %v, %q", err, again)
	}
	if _, err := s.Seek(1, io.SeekStart); err == nil {
		t.Fatal("it went into the middle")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestTarForgetsAnEarlierPass: what went wrong before Seek says nothing about the
// pass that followed.
func TestTarForgetsAnEarlierPass(t *testing.T) {
	dir := t.TempDir()
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skip(err)
	}
	s := open(t, dir).Tar(t.Context())
	if _, err := io.Copy(io.Discard, s); !errors.Is(err, shared.ReasonInvalidPackage) || !errors.Is(s.Close(), shared.ReasonInvalidPackage) {
		t.Fatalf("err = %v", err)
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, s, 10); err != nil || s.Close() != nil {
		t.Fatalf("err = %v, then %v", err, s.Close())
	}
}

func TestTarEndsEarly(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("when nobody reads on", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"big": strings.Repeat("x", 1<<20)})
		s := open(t, dir).Tar(t.Context())
		if _, err := io.CopyN(io.Discard, s, 1000); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("that is no error of the folder: %v", err)
		}
	})
	t.Run("before it was read at all", func(t *testing.T) {
		if err := open(t, t.TempDir()).Tar(t.Context()).Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("when its context does", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "a"})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := open(t, dir).Tar(ctx)
		_, err := io.Copy(io.Discard, s)
		if !errors.Is(err, context.Canceled) || !errors.Is(s.Close(), context.Canceled) {
			t.Fatalf("err = %v", err)
		}
	})
}

// meddler changes a file when the reader has got as far as its content.
type meddler struct {
	after string
	do    func()
	seen  bytes.Buffer
}

func (m *meddler) Write(p []byte) (int, error) {
	m.seen.Write(p)
	if m.do != nil && strings.Contains(m.seen.String(), m.after) {
		m.do()
		m.do = nil
	}
	return len(p), nil
}

func TestTarRefuses(t *testing.T) {
	refused := func(t *testing.T, err error, name, message string) {
		t.Helper()
		var e *shared.Error
		if !errors.As(err, &e) || e.Reason != shared.ReasonInvalidPackage || e.Metadata["path"] != name || !strings.Contains(e.Message, message) {
			t.Fatalf("err = %v (%+v)", err, e)
		}
	}
	for name, change := range map[string]func(path string) error{
		"a file that grows": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		},
		"a file that shrinks":     func(path string) error { return os.Truncate(path, 40<<10) },
		"a file that is replaced": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("y", 1<<20)), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"file": strings.Repeat("x", 1<<20)})
			path := filepath.Join(dir, "file")
			w := &meddler{after: "xxxx", do: func() {
				if err := change(path); err != nil {
					t.Error(err)
				}
			}}
			refused(t, open(t, dir).writeTar(t.Context(), w), "file", "changed while it was read")
		})
	}
	t.Run("a file that cannot be read", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root can read everything")
		}
		dir := t.TempDir()
		write(t, dir, map[string]string{"sub/secret": "x"})
		if err := os.Chmod(filepath.Join(dir, "sub", "secret"), 0); err != nil {
			t.Fatal(err)
		}
		refused(t, open(t, dir).writeTar(t.Context(), io.Discard), "sub/secret", "read sub/secret: permission denied")
	})
	t.Run("a file that is gone", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "first", "b": "x"})
		w := &meddler{after: "first", do: func() {
			if err := os.Remove(filepath.Join(dir, "b")); err != nil {
				t.Error(err)
			}
		}}
		refused(t, open(t, dir).writeTar(t.Context(), w), "b", "read b:")
	})
	t.Run("a socket", func(t *testing.T) {
		dir := t.TempDir()
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = listener.Close() }()
		refused(t, open(t, dir).writeTar(t.Context(), io.Discard), "s", "is a socket")
	})
	t.Run("a writer that fails", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "x"})
		r, w := io.Pipe()
		_ = r.CloseWithError(io.ErrShortBuffer)
		if err := open(t, dir).writeTar(t.Context(), w); !errors.Is(err, io.ErrShortBuffer) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"file": "x"})
	for name, message := range map[string]string{"missing": "does not exist", "file": "is not a folder", "file/below": ""} {
		_, err := Open(filepath.Join(dir, name))
		if !errors.Is(err, shared.ReasonInvalidPackage) || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), name) {
			t.Errorf("Open(%s): %v", name, err)
		}
	}
}

func BenchmarkTar(b *testing.B) {
	dir := b.TempDir()
	const size = 8 << 20
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("x"), size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b.SetBytes(size)
	for b.Loop() {
		s := f.Tar(b.Context())
		if _, err := io.Copy(io.Discard, s); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
