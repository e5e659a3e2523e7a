// Package bundle is the file by which packages travel without a network: a tar that
// begins with a list of contents, goes on with the logs of the packages' publishers,
// as updates that peers could have sent, and ends with the content.
//
//	ggen-bundle                 what is in it, as JSON
//	log/PUBLISHER/FROM          an update: entries of that log, from one on
//	blob/DIGEST                 an index or an archive, by its SHA-256 in hexadecimal
//
// This package knows the form and its limits. It verifies nothing: whoever reads
// treats updates and blobs as if a stranger had sent them.
package bundle

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Limits of a bundle.
const (
	MaxPackages = 10_000
	maxFiles    = 1 << 20 // members of the tar
	maxContents = 4 << 20 // bytes of the list of contents
)

const contentsName = "ggen-bundle"

// Package is a release in a bundle.
type Package struct {
	Name      string             `json:"name"`
	Publisher shared.PublisherID `json:"publisher"`
	Version   string             `json:"version"`
}

type contents struct {
	Format   int       `json:"format"` // 1
	Packages []Package `json:"packages"`
}

// Writer writes a bundle: first the contents, then updates, then blobs.
type Writer struct{ tw *tar.Writer }

// NewWriter begins a bundle.
func NewWriter(w io.Writer, packages []Package) (*Writer, error) {
	b := &Writer{tw: tar.NewWriter(w)}
	data, err := json.Marshal(contents{Format: 1, Packages: packages})
	if err != nil {
		return nil, err
	}
	return b, b.add(contentsName, data)
}

// Update adds an update that begins with an entry of a publisher's log.
func (b *Writer) Update(id shared.PublisherID, from int64, update []byte) error {
	return b.add(fmt.Sprintf("log/%s/%d", id, from), update)
}

func (b *Writer) add(name string, data []byte) error {
	if err := b.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := b.tw.Write(data)
	return err
}

func (b *Writer) header(name string, size int64) error {
	return b.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX})
}

// Blob adds content of size bytes.
func (b *Writer) Blob(digest shared.Digest, size int64, r io.Reader) error {
	if err := b.header("blob/"+digest.Hex(), size); err != nil {
		return err
	}
	n, err := io.Copy(b.tw, r)
	if err == nil && n != size {
		err = fmt.Errorf("blob %s has %d bytes instead of %d", digest, n, size)
	}
	return err
}

// Close ends the bundle; it does not close what it is written to.
func (b *Writer) Close() error { return b.tw.Close() }

// Visitor is what is done with the parts of a bundle, in their order. The data of an
// update is only valid during the call.
type Visitor struct {
	Contents func([]Package) error
	Update   func(publisher.Update) error
	Blob     func(digest shared.Digest, size int64, r io.Reader) error
}

var (
	logName  = regexp.MustCompile(`^log/([0-9a-f]{64})/([0-9]{1,9})$`)
	blobName = regexp.MustCompile(`^blob/([0-9a-f]{64})$`)
)

// Read visits the parts of a bundle. Errors: INVALID_ARGUMENT for what is no bundle or
// is cut off, LIMIT_EXCEEDED, the visitor's own.
func Read(r io.Reader, visit Visitor) error {
	tr := tar.NewReader(r)
	for count := 0; ; count++ {
		header, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF) && count > 0:
			return nil
		case err != nil:
			return noBundle(err)
		case count >= maxFiles:
			return shared.NewError(shared.ReasonLimitExceeded, "the bundle has more than %d parts", maxFiles)
		case header.Typeflag != tar.TypeReg:
			return noBundle(fmt.Errorf("%q is no file", header.Name))
		case (count == 0) != (header.Name == contentsName):
			return noBundle(errors.New("it does not begin with a list of its contents"))
		}
		if err := part(header, tr, visit); err != nil {
			return err
		}
	}
}

func part(header *tar.Header, r io.Reader, visit Visitor) error {
	if header.Name == contentsName {
		return readContents(header.Size, r, visit)
	}
	if m := logName.FindStringSubmatch(header.Name); m != nil {
		data, err := readAll(header, r, publisher.MaxUpdateSize)
		if err != nil {
			return err
		}
		u, err := publisher.ParseUpdate(data)
		if err != nil {
			return noBundle(fmt.Errorf("%s: %w", header.Name, err))
		}
		if from, err := strconv.ParseInt(m[2], 10, 64); err != nil || from != u.From {
			return noBundle(fmt.Errorf("%s holds entries from %d on", header.Name, u.From))
		}
		return visit.Update(u)
	}
	if m := blobName.FindStringSubmatch(header.Name); m != nil {
		return visit.Blob(shared.Digest("sha256:"+m[1]), header.Size, r)
	}
	return noBundle(fmt.Errorf("%q is no part of one", header.Name))
}

func readContents(size int64, r io.Reader, visit Visitor) error {
	data, err := readAll(&tar.Header{Name: contentsName, Size: size}, r, maxContents)
	if err != nil {
		return err
	}
	var c contents
	if err := json.Unmarshal(data, &c); err != nil {
		return noBundle(err)
	}
	switch {
	case c.Format > 1:
		return shared.NewError(shared.ReasonInvalidArgument, "the bundle has format %d, which only newer versions of this program know", c.Format)
	case c.Format != 1:
		return noBundle(fmt.Errorf("format %d", c.Format))
	case len(c.Packages) > MaxPackages:
		return shared.NewError(shared.ReasonLimitExceeded, "the bundle has %d packages; %d are allowed", len(c.Packages), MaxPackages)
	}
	for _, p := range c.Packages {
		if err := shared.CheckName(p.Name); err != nil || !p.Publisher.Complete() {
			return noBundle(fmt.Errorf("it lists %q of publisher %q", p.Name, p.Publisher))
		}
	}
	return visit.Contents(c.Packages)
}

func readAll(header *tar.Header, r io.Reader, most int64) ([]byte, error) {
	if header.Size > most {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s in the bundle has %d bytes; %d are allowed", header.Name, header.Size, most)
	}
	data := make([]byte, header.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, noBundle(err)
	}
	return data, nil
}

func noBundle(cause error) error {
	return shared.NewError(shared.ReasonInvalidArgument, "the file is no bundle of packages, or is cut off: %w", cause).
		WithHint("`ggen marketplace export FILE` writes one")
}
