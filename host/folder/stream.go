package folder

import (
	"context"
	"errors"
	"io"
)

// Stream is the tar of a folder while it is read. It can go back to the start,
// where the folder is read anew, so that a publish that met a dying engine can be
// repeated. It is for one goroutine at a time.
type Stream struct {
	ctx    context.Context // of the goroutine that reads the folder
	folder *Folder
	run    *run // nil before the first Read and after Seek
	failed error
}

var _ io.ReadSeekCloser = (*Stream)(nil)

// run is one pass over the folder.
type run struct {
	reader *io.PipeReader
	ended  chan error
}

// errEnough tells the pass that nobody reads on.
var errEnough = errors.New("the reader has stopped")

// Tar begins a stream; the folder is read as the stream is, and not into memory.
// It ends with an error, and without the end of a tar, when a file cannot be read
// or changes while it is read, or when ctx ends. Errors: INVALID_PACKAGE with
// metadata path, ctx's.
func (f *Folder) Tar(ctx context.Context) *Stream { return &Stream{ctx: ctx, folder: f} }

// Read implements [io.Reader].
func (s *Stream) Read(p []byte) (int, error) {
	if s.run == nil {
		reader, writer := io.Pipe()
		pass := &run{reader: reader, ended: make(chan error, 1)}
		go func() {
			err := s.folder.writeTar(s.ctx, writer)
			_ = writer.CloseWithError(err) // documented to return nil
			pass.ended <- err
		}()
		s.run = pass
	}
	return s.run.reader.Read(p)
}

// Seek goes back to the start; it can go nowhere else.
func (s *Stream) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.New("a folder can only be read again from its start")
	}
	s.stop()
	s.failed = nil
	return 0, nil
}

// Close waits for the pass to end and returns why the folder could not be read,
// if that is what happened. It is idempotent.
func (s *Stream) Close() error {
	s.stop()
	return s.failed
}

func (s *Stream) stop() {
	if s.run == nil {
		return
	}
	_ = s.run.reader.CloseWithError(errEnough) // documented to return nil
	if err := <-s.run.ended; !errors.Is(err, errEnough) {
		s.failed = err
	}
	s.run = nil
}
