package main

import (
	"os"
	"sync"

	"ggen.dev/marketplace/shared/launch"
)

// boundedLog is a log file that is put aside when it has launch.MaxLog bytes, so
// that a log and the one before it are all that there ever is.
type boundedLog struct {
	path string

	mu   sync.Mutex // guards the fields below
	file *os.File
	size int64
}

func openLog(path string) (*boundedLog, error) {
	l := &boundedLog{path: path}
	return l, l.open()
}

func (l *boundedLog) open() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close() // nothing was written
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// Write implements io.Writer.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > launch.MaxLog && l.size > 0 {
		if err := os.Rename(l.path, l.path+".old"); err != nil {
			return 0, err
		}
		_ = l.file.Close() // everything is written
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// Close implements io.Closer.
func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
