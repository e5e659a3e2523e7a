package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(fillerEnv); dir != "" {
		fillForever(dir)
	}
	if path := os.Getenv(migratorEnv); path != "" {
		if err := migrate(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, maxBytes int64) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{MaxBytes: maxBytes})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return data
}

func put(t testing.TB, s *store.Store, data []byte) shared.Digest {
	t.Helper()
	digest, size, err := s.Put(t.Context(), bytes.NewReader(data), "")
	if err != nil || size != int64(len(data)) {
		t.Fatalf("Put of %d bytes: %d, %v", len(data), size, err)
	}
	return digest
}

func content(t testing.TB, s *store.Store, digest shared.Digest) []byte {
	t.Helper()
	blob, err := s.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blob.Close() }()
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantUsage(t testing.TB, s *store.Store, count int, size int64) {
	t.Helper()
	if c, b, err := s.Usage(); err != nil || c != count || b != size {
		t.Fatalf("usage is %d blobs, %d bytes, %v; want %d, %d", c, b, err, count, size)
	}
}

func wantReason(t testing.TB, err error, reason shared.Reason) {
	t.Helper()
	if !errors.Is(err, reason) {
		t.Fatalf("error is %v, want %s", err, reason)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wantEmptyFolder checks that nothing is left in a folder of the store.
func wantEmptyFolder(t testing.TB, path ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path...))
	if err != nil || len(entries) > 0 {
		t.Fatalf("%s holds %v, %v", filepath.Join(path...), entries, err)
	}
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	for _, size := range []int{0, 1, 256 << 10, 700_001} {
		data := random(t, size)
		digest := put(t, s, data)
		if digest != shared.DigestOf(data) || !s.Has(digest) || !bytes.Equal(content(t, s, digest), data) {
			t.Fatalf("content of %d bytes did not come back", size)
		}
	}
	wantUsage(t, s, 4, 1+256<<10+700_001)
	wantEmptyFolder(t, dir, "tmp")

	t.Run("the same content again is stored once", func(t *testing.T) {
		put(t, s, nil)
		wantUsage(t, s, 4, 1+256<<10+700_001)
	})
	t.Run("other content than announced is refused", func(t *testing.T) {
		_, _, err := s.Put(t.Context(), bytes.NewReader([]byte("x")), shared.DigestOf([]byte("y")))
		wantReason(t, err, shared.ReasonIntegrity)
		if s.Has(shared.DigestOf([]byte("x"))) {
			t.Fatal("it was stored")
		}
	})
	t.Run("a reader that fails leaves nothing", func(t *testing.T) {
		broken := errors.New("broken")
		_, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(random(t, 300<<10)), iotest.ErrReader(broken)), "")
		if !errors.Is(err, broken) {
			t.Fatalf("error is %v", err)
		}
		wantEmptyFolder(t, dir, "tmp")
	})
	t.Run("a context that ended stops it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := s.Put(ctx, bytes.NewReader([]byte("x")), "")
		wantReason(t, err, shared.ReasonCanceled)
	})
	t.Run("a digest that is none is refused", func(t *testing.T) {
		_, _, err := s.Put(t.Context(), bytes.NewReader(nil), "sha256:../../etc")
		wantReason(t, err, shared.ReasonInvalidArgument)
		_, err = s.Open("sha256:../../etc")
		wantReason(t, err, shared.ReasonInvalidArgument)
		wantReason(t, s.Delete("x"), shared.ReasonInvalidArgument)
	})
	t.Run("many at once keep count and content", func(t *testing.T) {
		s := open(t, t.TempDir(), 0)
		var group sync.WaitGroup
		for i := range 32 {
			group.Go(func() {
				if _, _, err := s.Put(t.Context(), bytes.NewReader([]byte{byte(i % 4)}), ""); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		wantUsage(t, s, 4, 4)
	})
	t.Run("what is there survives a new Open", func(t *testing.T) {
		wantUsage(t, open(t, dir, 0), 4, 1+256<<10+700_001)
	})
}

func TestPutFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	write := func(data string) string {
		path := filepath.Join(s.Scratch(), "archive")
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("hello")
	if err := s.PutFile(t.Context(), path, shared.DigestOf([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the file was not moved: %v", err)
	}
	if string(content(t, s, shared.DigestOf([]byte("hello")))) != "hello" {
		t.Fatal("wrong content")
	}
	t.Run("wrong content is refused and left where it is", func(t *testing.T) {
		path := write("other")
		wantReason(t, s.PutFile(t.Context(), path, shared.DigestOf([]byte("hallo"))), shared.ReasonIntegrity)
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("content that is there already is consumed", func(t *testing.T) {
		if err := s.PutFile(t.Context(), write("hello"), shared.DigestOf([]byte("hello"))); err != nil {
			t.Fatal(err)
		}
		wantUsage(t, s, 1, 5)
		wantEmptyFolder(t, dir, "tmp")
	})
	t.Run("a symbolic link is refused", func(t *testing.T) {
		link := filepath.Join(s.Scratch(), "link")
		if err := os.Symlink(write("linked"), link); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		wantReason(t, s.PutFile(t.Context(), link, shared.DigestOf([]byte("linked"))), shared.ReasonStorage)
	})
}

func TestQuota(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	first := put(t, s, random(t, 600))
	_, _, err := s.Put(t.Context(), bytes.NewReader(random(t, 401)), "")
	wantReason(t, err, shared.ReasonStorageFull)
	if e := shared.AsError(err); e.Hint == "" || e.Metadata["path"] != dir {
		t.Fatalf("the error does not help: %+v", e)
	}
	wantEmptyFolder(t, dir, "tmp")
	digest, size, chunks := chunked(random(t, 401), 100)
	_, err = s.Partial(digest, size, 100, chunks)
	wantReason(t, err, shared.ReasonStorageFull)
	wantEmptyFolder(t, dir, "partial")

	put(t, s, random(t, 400))
	if err := s.Delete(first); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partial(digest, size, 100, chunks)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Put(t.Context(), bytes.NewReader(random(t, 200)), "")
	wantReason(t, err, shared.ReasonStorageFull) // 400 + 401 + 200
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1000)
	_, _, err = s.Put(t.Context(), bytes.NewReader(random(t, 200)), "")
	wantReason(t, err, shared.ReasonStorageFull) // an unfinished download still counts
	if p, err = s.Partial(digest, size, 100, chunks); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Discard(), p.Close()); err != nil {
		t.Fatal(err)
	}
	put(t, s, random(t, 600))
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	digest := put(t, s, []byte("hello"))
	if err := s.Verify(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", digest.Hex()[:2], digest.Hex())
	if err := os.WriteFile(path, []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantReason(t, s.Verify(t.Context(), digest), shared.ReasonIntegrity)
	if s.Has(digest) {
		t.Fatal("the damaged blob was not dropped")
	}
	wantUsage(t, s, 0, 0)
	if err := s.Verify(t.Context(), digest); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error is %v", err)
	}
}

func TestAllAndDelete(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	want := []shared.Digest{put(t, s, []byte("a")), put(t, s, []byte("b")), put(t, s, []byte("c"))}
	stranger := filepath.Join(dir, "blobs", want[0].Hex()[:2], "README")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var got []shared.Digest
	for digest, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, digest)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("All gave %v, want %v", got, want)
	}
	held, err := s.Open(want[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // deleting again is no error
		if err := s.Delete(want[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := held.ReadAt(make([]byte, 1), 0); n != 1 {
		t.Fatalf("an open blob became unreadable: %v", err)
	}
	_ = held.Close()
	wantUsage(t, s, 2, 2)
}

func TestOpenCleansUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	done := put(t, s, []byte("finished"))
	old := time.Now().Add(-8 * 24 * time.Hour)
	kept := shared.DigestOf([]byte("kept")).Hex()
	for name, modified := range map[string]time.Time{
		"tmp/put-123": time.Now(),
		"partial/" + shared.DigestOf([]byte("old")).Hex(): old,
		"partial/" + done.Hex():                           time.Now(),
		"partial/" + kept:                                 time.Now(),
		"partial/what":                                    time.Now(),
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chtimes(path, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, 0)
	wantEmptyFolder(t, dir, "tmp")
	entries, err := os.ReadDir(filepath.Join(dir, "partial"))
	if err != nil || len(entries) != 1 || entries[0].Name() != kept {
		t.Fatalf("left are %v, %v; want %s", entries, err, kept)
	}
}

// TestUsageAgreesWithDisk: whatever happens in whatever order, the count that is
// kept in memory is the one that a new store finds.
func TestUsageAgreesWithDisk(t *testing.T) {
	base, runs := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir := filepath.Join(base, fmt.Sprint(runs))
		s := open(t, dir, 2000)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			data := bytes.Repeat([]byte{byte(rapid.IntRange(0, 5).Draw(rt, "content"))}, 300)
			digest, size, chunks := chunked(data, 128)
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				_, _, _ = s.Put(t.Context(), bytes.NewReader(data), "")
			case 1:
				_ = s.Delete(digest)
			default:
				p, err := s.Partial(digest, size, 128, chunks)
				if err != nil {
					continue // the quota
				}
				for _, i := range p.Missing() {
					if rapid.Bool().Draw(rt, "write") {
						if err := p.WriteChunk(i, data[i*128:min(300, (i+1)*128)]); err != nil {
							rt.Fatal(err)
						}
					}
				}
				if len(p.Missing()) == 0 {
					if err := p.Commit(); err != nil {
						rt.Fatal(err)
					}
				} else if rapid.Bool().Draw(rt, "discard") {
					_ = p.Discard()
				}
				_ = p.Close()
			}
		}
		count, size, err := s.Usage()
		again := open(t, dir, 2000)
		fresh, freshSize, freshErr := again.Usage()
		if charged, onDisk := must(s.Charged()), must(again.Charged()); charged != onDisk || charged > 2000 {
			rt.Fatalf("%d bytes are charged, and %d are on disk", charged, onDisk)
		}
		if err != nil || freshErr != nil || count != fresh || size != freshSize || size > 2000 {
			rt.Fatalf("%d blobs, %d bytes (%v); on disk %d, %d (%v)", count, size, err, fresh, freshSize, freshErr)
		}
	})
}

func BenchmarkPut30KB(b *testing.B) {
	s := open(b, b.TempDir(), 0)
	data := random(b, 30<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		data[0]++
		if data[0] == 0 {
			data[1]++
		}
		if _, _, err := s.Put(b.Context(), bytes.NewReader(data), ""); err != nil {
			b.Fatal(err)
		}
	}
}
