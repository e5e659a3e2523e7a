package archive

import "slices"

// Content is where the content of a file, or a piece of it, stands in a range of an
// archive.
type Content struct {
	File File // never a folder, never empty
	From int64
	At   int // in the range, from here
	To   int // to here, exclusive
}

// Whole tells whether all of the file's content is in the range.
func (c Content) Whole() bool { return c.From == 0 && int64(c.To-c.At) == c.File.Size }

// Skeleton writes into part what the index determines by itself of the archive's bytes
// from offset on: headers, padding, and the end. It zeroes the rest and tells what files
// belong there, in order. Errors: those of an index that was not checked.
func (ix *Index) Skeleton(offset int64, part []byte) (contents []Content, err error) {
	clear(part)
	end := offset + int64(len(part))
	// The first file that does not end before offset.
	first, _ := slices.BinarySearchFunc(ix.Files, offset, func(f File, offset int64) int {
		if f.end() <= offset {
			return -1
		}
		return 1
	})
	var h headers
	begin := int64(0) // of the next header
	if first > 0 {
		begin = ix.Files[first-1].end()
	}
	for _, f := range ix.Files[first:] {
		if begin >= end {
			break
		}
		header, err := h.of(f.node())
		if err != nil {
			return nil, err
		}
		if skip := max(offset-begin, 0); skip < int64(len(header)) {
			copy(part[begin+skip-offset:], header[skip:])
		}
		from, to := max(f.Offset, offset), min(f.Offset+f.Size, end)
		if from < to {
			contents = append(contents, Content{File: f, From: from - f.Offset, At: int(from - offset), To: int(to - offset)})
		}
		begin = f.end()
	}
	return contents, nil
}

// end is where the next header begins.
func (f File) end() int64 { return f.Offset + f.Size + padding(f.Size) }
