package store

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
)

// The format of a bbolt file, version 2, in the byte order of the machine. A page
// begins with: id 8 bytes, kind 2, count of elements 2, further pages that belong
// to it 4. An element has 16 bytes.
const (
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16 // root page 8, sequence 8; root 0: the bucket is a page behind them

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01

	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)

	// maxDepth bounds branches and buckets on the way to a key. Ours has seldom
	// over eight.
	maxDepth = 64
)

var order = binary.NativeEndian

// sound checks every page of the newest state in a database file before bbolt sees
// it: that it is where it belongs, once, that what it points at lies in the file,
// and that its keys are in order. bbolt takes all this for granted: a page out of
// bounds ends the process, and one that is its own descendant fills the memory
// first. What the values say is for their readers to check.
func sound(file *os.File, pageSize int) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if pageSize < 1<<10 || pageSize > 1<<24 || pageSize&(pageSize-1) != 0 {
		return damaged("its pages have %d bytes", pageSize)
	}
	m, err := newestMeta(file, pageSize)
	if err != nil {
		return err
	}
	if m.end > uint64(info.Size())/uint64(pageSize) {
		return damaged("it has %d bytes of %d pages of %d: its end is missing", info.Size(), m.end, pageSize)
	}
	c := &pages{file: file, size: pageSize, end: m.end, seen: make([]bool, m.end)}
	if err := c.tree(m.root, keyRange{}, 0); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return c.freelist(m.freelist)
}

// meta is what the first two pages tell; the one with the higher txid counts.
type meta struct{ root, freelist, end, txid uint64 }

func newestMeta(file *os.File, pageSize int) (newest meta, err error) {
	found := false
	for at := range int64(2) {
		raw := make([]byte, metaSize)
		if _, err := file.ReadAt(raw, at*int64(pageSize)+pageHeader); err != nil {
			return newest, damaged("page %d cannot be read: %v", at, err)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(raw[:metaSize-8])
		if order.Uint32(raw) != metaMagic || order.Uint32(raw[4:]) != metaVersion || order.Uint64(raw[metaSize-8:]) != sum.Sum64() {
			continue
		}
		if size := order.Uint32(raw[8:]); size != uint32(pageSize) {
			return newest, damaged("page %d says that pages have %d bytes, not %d", at, size, pageSize)
		}
		m := meta{root: order.Uint64(raw[16:]), freelist: order.Uint64(raw[32:]), end: order.Uint64(raw[40:]), txid: order.Uint64(raw[48:])}
		if !found || m.txid > newest.txid {
			newest, found = m, true
		}
	}
	if !found {
		return newest, damaged("neither of its first two pages is valid")
	}
	return newest, nil
}

// pages are those of one state of a database.
type pages struct {
	file *os.File
	size int
	end  uint64 // pages below it are in use
	seen []bool
	leaf []byte // for one leaf at a time
}

// keyRange are the keys that may be in a page: from low up to high; nil is no bound.
type keyRange struct{ low, high []byte }

// page is one page with those that belong to it.
type page struct {
	id    uint64
	kind  uint16
	count int
	data  []byte
}

// read reads a page that nothing else may point at. The data is buffer's, if it is
// large enough.
func (c *pages) read(id uint64, buffer []byte) (page, error) {
	if id < 2 || id >= c.end {
		return page{}, damaged("page %d does not exist", id)
	}
	if cap(buffer) < c.size {
		buffer = make([]byte, c.size)
	}
	buffer = buffer[:c.size]
	at := int64(id) * int64(c.size)
	if _, err := c.file.ReadAt(buffer, at); err != nil {
		return page{}, damaged("page %d cannot be read: %v", id, err)
	}
	if own := order.Uint64(buffer); own != id {
		return page{}, damaged("page %d takes itself for page %d", id, own)
	}
	more := uint64(order.Uint32(buffer[12:]))
	if more >= c.end-id {
		return page{}, damaged("page %d goes on for %d pages", id, more)
	}
	for i := id; i <= id+more; i++ {
		if c.seen[i] {
			return page{}, damaged("page %d is used twice", i)
		}
		c.seen[i] = true
	}
	if more > 0 {
		buffer = make([]byte, int(more+1)*c.size)
		if _, err := c.file.ReadAt(buffer, at); err != nil {
			return page{}, damaged("page %d cannot be read: %v", id, err)
		}
	}
	return parsePage(id, buffer)
}

func parsePage(id uint64, data []byte) (page, error) {
	p := page{id: id, kind: order.Uint16(data[8:]), count: int(order.Uint16(data[10:])), data: data}
	if p.kind != freelistPage && pageHeader+p.count*elementSize > len(data) {
		return p, damaged("page %d has %d elements", id, p.count)
	}
	return p, nil
}

// tree checks a page and all below it.
func (c *pages) tree(id uint64, keys keyRange, depth int) error {
	if depth > maxDepth {
		return damaged("page %d lies %d levels deep", id, depth)
	}
	p, err := c.read(id, c.leaf)
	if err != nil {
		return err
	}
	switch p.kind {
	case leafPage:
		c.leaf = p.data
		return c.leaves(p, keys, depth)
	case branchPage:
		c.leaf = nil // the keys stay in use
		return c.branches(p, keys, depth)
	}
	return damaged("page %d is of kind %#x", id, p.kind)
}

func (c *pages) branches(p page, keys keyRange, depth int) error {
	if p.count == 0 {
		return damaged("page %d points at nothing", p.id)
	}
	all := make([][]byte, p.count)
	for i := range all {
		element := p.element(i)
		key, ok := p.bytes(i, uint64(order.Uint32(element)), uint64(order.Uint32(element[4:])))
		if !ok || !keys.admit(key) || i > 0 && bytes.Compare(all[i-1], key) >= 0 {
			return damaged("page %d: key %d is out of bounds or order", p.id, i)
		}
		all[i] = key
	}
	for i, key := range all {
		below := keyRange{low: key, high: keys.high}
		if i+1 < len(all) {
			below.high = all[i+1]
		}
		if err := c.tree(order.Uint64(p.element(i)[8:]), below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *pages) leaves(p page, keys keyRange, depth int) error {
	roots, err := p.checkLeaf(keys, true)
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := c.tree(root, keyRange{}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaf checks a leaf's elements and gives the roots of the buckets among them.
func (p page) checkLeaf(keys keyRange, mayNest bool) (roots []uint64, err error) {
	var last []byte
	for i := range p.count {
		element := p.element(i)
		flags, at, keySize, size := order.Uint32(element), uint64(order.Uint32(element[4:])), uint64(order.Uint32(element[8:])), uint64(order.Uint32(element[12:]))
		key, ok := p.bytes(i, at, keySize)
		if !ok || !keys.admit(key) || i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, damaged("page %d: key %d is out of bounds or order", p.id, i)
		}
		last = key
		value, ok := p.bytes(i, at+keySize, size)
		if !ok || flags > bucketElement {
			return nil, damaged("page %d: value %d is out of bounds or of kind %#x", p.id, i, flags)
		}
		if flags != bucketElement {
			continue
		}
		root, err := p.bucket(value, mayNest)
		if err != nil {
			return nil, err
		}
		if root != 0 {
			roots = append(roots, root)
		}
	}
	return roots, nil
}

// bucket gives a bucket's root page, or checks the page that is inside its value.
func (p page) bucket(value []byte, mayNest bool) (root uint64, err error) {
	if len(value) < bucketHeader || !mayNest {
		return 0, damaged("page %d: a bucket is cut off or within an inline one", p.id)
	}
	if root := order.Uint64(value); root != 0 {
		return root, nil
	}
	if len(value) < bucketHeader+pageHeader {
		return 0, damaged("page %d: a bucket is cut off", p.id)
	}
	inline, err := parsePage(p.id, value[bucketHeader:])
	if err == nil && inline.kind != leafPage {
		err = damaged("page %d: a bucket in it is of kind %#x", p.id, inline.kind)
	}
	if err == nil {
		_, err = inline.checkLeaf(keyRange{}, false)
	}
	return 0, err
}

func (p page) element(i int) []byte { return p.data[pageHeader+i*elementSize:][:elementSize] }

// bytes gives size bytes that lie at a distance from element i.
func (p page) bytes(i int, at, size uint64) ([]byte, bool) {
	start := uint64(pageHeader+i*elementSize) + at
	if start+size > uint64(len(p.data)) {
		return nil, false
	}
	return p.data[start : start+size], true
}

func (r keyRange) admit(key []byte) bool {
	return bytes.Compare(r.low, key) <= 0 && (r.high == nil || bytes.Compare(key, r.high) < 0)
}

// freelist checks a stored list of free pages, in which bbolt must not find one
// that is in use.
func (c *pages) freelist(id uint64) error {
	p, err := c.read(id, nil)
	if err != nil {
		return err
	}
	if p.kind != freelistPage {
		return damaged("page %d is of kind %#x and not a list of free pages", id, p.kind)
	}
	count, list := uint64(p.count), p.data[pageHeader:]
	if count == 0xFFFF { // too many for the header
		count, list = order.Uint64(list), list[8:]
	}
	if count > uint64(len(list))/8 {
		return damaged("page %d lists %d free pages", id, count)
	}
	for i := range count {
		free := order.Uint64(list[i*8:])
		if free < 2 || free >= c.end || c.seen[free] {
			return damaged("page %d lists page %d as free", id, free)
		}
		c.seen[free] = true
	}
	return nil
}
