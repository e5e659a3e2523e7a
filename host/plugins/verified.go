package plugins

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aead.dev/minisign"

	"ggen.dev/marketplace/shared"
)

// maxEngine bounds an engine file, in bytes; ours has 30 MB.
const maxEngine = 1 << 30

// verifiedFile is a line of the cache of verified engines: hashing 30 MB takes
// 30 ms, as long as everything else a command does.
type verifiedFile struct {
	Size   int64         `json:"size"`
	Time   int64         `json:"mtime_ns"`
	Inode  uint64        `json:"inode"` // 0 where files have none
	Digest shared.Digest `json:"digest"`
	Key    string        `json:"key,omitempty"` // whose signature was checked
}

// Bounds on the cache.
const (
	maxVerified      = 256 // files
	maxVerifiedBytes = 256 << 10
)

// verify fails a candidate that is not what its checksum says, or, if keys are
// pinned, not what its signature was made for, and returns its digest if it had to
// be hashed. With cached, a file that was verified and looks unchanged is not. What
// plugins.lock says was compared with the checksum before.
func (r rules) verify(c *Candidate, cached bool) (found shared.Digest) {
	info, err := os.Stat(c.Path)
	if err != nil {
		c.fail(err.Error(), "")
		return ""
	}
	signature := r.keys.look(c.Path)
	want := verifiedFile{Size: info.Size(), Time: info.ModTime().UnixNano(), Inode: inode(info), Digest: c.Digest}
	if r.keys.required() {
		want.Key = signature.key.String()
	}
	cache := r.search.readVerified()
	if cached && cache[c.Path] == want {
		return ""
	}
	found, authentic, err := hashFile(c.Path, signature)
	switch {
	case err != nil:
		c.fail(err.Error(), "")
	case found != c.Digest:
		c.differ(found)
	case r.keys.required() && !authentic:
		c.fail("its signature was not made for this file", installAgain)
	default:
		cache[c.Path] = want
		r.search.writeVerified(cache)
	}
	return found
}

const installAgain = "install it again from where you got it"

// differ fails a candidate whose content is not what c.Digest says.
func (c *Candidate) differ(found shared.Digest) {
	c.fail(fmt.Sprintf("it is not what its checksum says: it is %s, and %s is expected", found, c.Digest), installAgain)
	c.found, c.expected = found, c.Digest
}

// hashFile reads an engine once. authentic is false without a usable signature.
func hashFile(path string, signature signed) (digest shared.Digest, authentic bool, err error) {
	file, err := openEngine(path)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return hash(file, io.Discard, signature)
}

func openEngine(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path) // opening a pipe would wait for a writer
	}
	return os.Open(path)
}

// hash copies an engine while it hashes it and checks its signature.
func hash(from io.Reader, to io.Writer, signature signed) (digest shared.Digest, authentic bool, err error) {
	signable := minisign.NewReader(io.LimitReader(from, maxEngine+1))
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), signable)
	if err != nil {
		return "", false, err
	}
	if n > maxEngine {
		return "", false, fmt.Errorf("it has more than %d bytes", maxEngine)
	}
	authentic = signature.text != nil && signable.Verify(signature.key, signature.text)
	return shared.DigestFromSum([sha256.Size]byte(sum.Sum(nil))), authentic, nil
}

func (s Search) verifiedFile() string { return filepath.Join(s.RunDir, "verified.json") }

// readVerified gives an empty cache when there is none or when it is damaged.
func (s Search) readVerified() map[string]verifiedFile {
	cache := map[string]verifiedFile{}
	if s.RunDir == "" {
		return cache
	}
	if info, err := os.Stat(s.verifiedFile()); err != nil || !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return cache
	}
	file, err := os.Open(s.verifiedFile())
	if err != nil {
		return cache
	}
	defer func() { _ = file.Close() }() // only read
	if err := json.NewDecoder(io.LimitReader(file, maxVerifiedBytes)).Decode(&cache); err != nil || cache == nil || len(cache) >= maxVerified {
		return map[string]verifiedFile{}
	}
	return cache
}

// writeVerified may fail in silence: then the next command hashes again.
func (s Search) writeVerified(cache map[string]verifiedFile) {
	data, err := json.Marshal(cache)
	if err != nil || s.RunDir == "" {
		return
	}
	root, err := os.OpenRoot(s.RunDir)
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }() // only a handle
	_ = replace(root, filepath.Base(s.verifiedFile()), data, 0o600)
}
