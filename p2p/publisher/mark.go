package publisher

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/shared"
)

// Mark is how far a publisher's log had come when this key last signed it. It
// is kept beside the key: a publisher whose database was lost or restored from
// an old backup would otherwise begin its log anew, contradict its own signed
// heads, and be quarantined by everybody for good.
type Mark struct {
	Publisher shared.PublisherID
	Size      int64
	Hash      tlog.Hash
}

const (
	markSuffix = ".log"
	maxMark    = 256 // bytes of the file
)

// Mark reads the mark kept beside the key. It is the zero value when nothing was
// signed yet or the key came from no file. Errors: STORAGE.
func (k *Key) Mark() (Mark, error) {
	if k.path == "" {
		return Mark{}, nil
	}
	path := k.path + markSuffix
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, shared.NewError(shared.ReasonStorage, "read publisher mark %s: %w", path, err)
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxMark))
	if err != nil {
		return Mark{}, shared.NewError(shared.ReasonStorage, "read publisher mark %s: %w", path, err)
	}
	mark, err := parseMark(string(data))
	if err != nil {
		return Mark{}, shared.NewError(shared.ReasonStorage, "publisher mark %s is damaged: %w", path, err).
			WithHint("fetch your log from other peers first; if `info` then shows your newest release, delete the file")
	}
	return mark, nil
}

func parseMark(text string) (Mark, error) {
	var mark Mark
	var publisher, hash string
	if _, err := fmt.Sscanf(text, "%64s %d %44s\n", &publisher, &mark.Size, &hash); err != nil {
		return Mark{}, errors.New("it is not three words")
	}
	var err error
	mark.Publisher = shared.PublisherID(publisher)
	if mark.Hash, err = tlog.ParseHash(hash); err != nil || !mark.Publisher.Complete() || mark.Size < 1 || mark.text() != text {
		return Mark{}, errors.New("it is not a publisher, a size and a hash")
	}
	return mark, nil
}

func (m Mark) text() string { return fmt.Sprintf("%s %d %s\n", m.Publisher, m.Size, m.Hash) }

// SetMark durably replaces the mark beside the key; it does nothing for a key
// that came from no file. Errors: STORAGE.
func (k *Key) SetMark(mark Mark) error {
	if k.path == "" {
		return nil
	}
	path := k.path + markSuffix
	err := writeFile(path, []byte(mark.text()), func(temporary string) error { return os.Rename(temporary, path) })
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "write publisher mark %s: %w", path, err)
	}
	return nil
}
