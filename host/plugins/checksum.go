package plugins

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Suffixes of the small files beside an engine.
const (
	checksumSuffix  = ".sha256"
	signatureSuffix = ".minisig"
)

// maxSmall bounds a checksum, signature or key file, in bytes.
const maxSmall = 8 << 10

// readChecksum reads the digest beside an engine, in the format of sha256sum.
func readChecksum(path string) (shared.Digest, error) {
	name := filepath.Base(path) + checksumSuffix
	data, err := readSmall(path + checksumSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errors.New("its checksum file is missing")
	case err != nil:
		return "", fmt.Errorf("its checksum file %s cannot be read: %w", name, err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if fields := strings.Fields(line); len(fields) > 0 {
		if digest, err := parseSum(fields[0]); err == nil {
			return digest, nil
		}
	}
	return "", fmt.Errorf("its checksum file %s is not in the format of sha256sum", name)
}

// parseSum reads 64 hexadecimal digits.
func parseSum(hex string) (shared.Digest, error) {
	return shared.ParseDigest("sha256:" + strings.ToLower(strings.TrimPrefix(hex, "sha256:")))
}

// checksumLine is the content of a checksum file.
func checksumLine(digest shared.Digest, name string) []byte {
	return []byte(digest.Hex() + "  " + name + "\n")
}

func fixChecksum(path string) string {
	name := filepath.Base(path)
	return fmt.Sprintf("if you trust the file, run (cd %s && sha256sum %s > %s)", quoted(filepath.Dir(path)), name, name+checksumSuffix)
}

// quoted is a path as one word of a POSIX shell, for commands in hints.
func quoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@", r))
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// readSmall reads a regular file of at most maxSmall bytes.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file") // opening a pipe would wait for a writer
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSmall+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxSmall {
		return nil, fmt.Errorf("it has more than %d bytes", maxSmall)
	}
	return data, nil
}
