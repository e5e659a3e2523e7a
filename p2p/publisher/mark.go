package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/shared"
)

// Mark is the newest state of a log that a key has signed. It is kept beside the
// key file, because a publisher whose database was lost, or came back from an old
// backup, would otherwise begin its log anew, contradict its own signed heads, and
// be quarantined by everybody for good.
//
// The order is: sign, write the mark, store the log, tell others. So nothing that
// others may have seen is ever ahead of the mark. After a crash between mark and
// store the log ends before Entries; whoever signs next appends them first (or
// signs for them alone): the new head then continues the lost one, wherever that
// one went.
type Mark struct {
	Publisher shared.PublisherID `json:"publisher"`
	Size      int64              `json:"size"`
	Hash      tlog.Hash          `json:"hash"`
	Entries   [][]byte           `json:"entries"` // the newest ones under the mark
}

const (
	// maxMarkFile bounds the file in bytes. One mark has seldom more than one
	// entry of a few hundred bytes.
	maxMarkFile = 4 << 20

	// maxMarkEntries bounds the entries of one mark: each crash at the wrong
	// moment adds one, the next publish that succeeds takes them all away.
	maxMarkEntries = 64
)

// MarkPath is the file of the marks, empty for a keyring in memory.
func (r *Keyring) MarkPath() string { return r.path("publisher.key.mark") }

// Mark reads what was signed last for a publisher. It is the zero value when nothing
// was signed yet, or the keyring is in memory. Errors: STORAGE.
func (r *Keyring) Mark(id shared.PublisherID) (Mark, error) {
	marks, err := r.marks()
	if i := slices.IndexFunc(marks, func(m Mark) bool { return m.Publisher == id }); i >= 0 {
		return marks[i], nil
	}
	return Mark{}, err
}

func (r *Keyring) marks() ([]Mark, error) {
	path := r.MarkPath()
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read the mark of the publisher key: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxMarkFile+1))
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read the mark of the publisher key: %w", err)
	}
	marks, err := parseMarks(data)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "the mark %s of the publisher key is damaged: %w", path, err).
			WithHint("connect to peers until your newest release is in your catalogue again, then remove this file and retry")
	}
	return marks, nil
}

// marksFile is the form on disk.
type marksFile struct {
	Format int    `json:"v"` // 1
	Marks  []Mark `json:"marks"`
}

func parseMarks(data []byte) ([]Mark, error) {
	if len(data) > maxMarkFile {
		return nil, fmt.Errorf("it has over %d bytes", maxMarkFile)
	}
	var file marksFile
	if err := strictJSON(data, &file); err != nil {
		return nil, err
	}
	if file.Format != 1 {
		return nil, fmt.Errorf("format %d is not known", file.Format)
	}
	for i, m := range file.Marks {
		twice := slices.ContainsFunc(file.Marks[:i], func(other Mark) bool { return other.Publisher == m.Publisher })
		if twice || !m.Publisher.Complete() || m.Size < 1 || m.Size > MaxLogSize || len(m.Entries) > maxMarkEntries || int64(len(m.Entries)) > m.Size {
			return nil, fmt.Errorf("mark %d of %q is not one", i, m.Publisher)
		}
	}
	return file.Marks, nil
}

// SetMark durably replaces the mark of one publisher; a mark of size 0 removes it.
// It does nothing for a keyring in memory. Two processes must not use one keyring at
// once. Errors: STORAGE, STORAGE_FULL.
func (r *Keyring) SetMark(mark Mark) error {
	path := r.MarkPath()
	if path == "" {
		return nil
	}
	marks, err := r.marks()
	if err != nil {
		return err
	}
	marks = slices.DeleteFunc(marks, func(m Mark) bool { return m.Publisher == mark.Publisher })
	if mark.Size > 0 {
		marks = append(marks, mark)
	}
	data, err := json.Marshal(marksFile{Format: 1, Marks: marks})
	if err != nil {
		return fmt.Errorf("encode the mark of the publisher key: %w", err)
	}
	if _, err := parseMarks(data); err != nil { // never write what cannot be read again
		return shared.NewError(shared.ReasonStorage, "the mark %s of the publisher key cannot be written: %w", path, err)
	}
	if err := replaceFile(path, data); err != nil {
		return fileError(err, "write the mark %s of the publisher key", path)
	}
	return nil
}
