package publisher

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/shared"
)

// HeadLifetime is how long a head counts as fresh. A publisher that has nothing
// to say signs a beacon before: a head of the same log with a later time. A peer that only ever sees an older head is shown
// as stale, because somebody may be keeping newer ones from it (freeze attack).
const HeadLifetime = 30 * 24 * time.Hour

// Head is the signed state of a log: this many entries, with this root hash.
type Head struct {
	Publisher shared.PublisherID
	Size      int64
	Hash      tlog.Hash
	Time      time.Time // seconds, the publisher's clock
	Signed    []byte    // the note
}

// Fresh tells whether the head is younger than [HeadLifetime].
func (h Head) Fresh(now time.Time) bool { return now.Sub(h.Time) < HeadLifetime }

const headOrigin = "ggen publisher log v1"

// BeaconInterval is the least time between two heads of one size that count: a
// publisher cannot make the network carry more of them.
const BeaconInterval = time.Hour

// SignHead signs the state of a log.
func SignHead(id shared.PublisherID, size int64, hash tlog.Hash, now time.Time, keys ...*Key) (Head, error) {
	text := fmt.Sprintf("%s\n%s\n%d\n%s\n%d\n", headOrigin, id, size, base64.StdEncoding.EncodeToString(hash[:]), now.Unix())
	signed, err := SignNote(id, text, keys...)
	if err != nil {
		return Head{}, fmt.Errorf("sign head: %w", err)
	}
	return Head{Publisher: id, Size: size, Hash: hash, Time: time.Unix(now.Unix(), 0), Signed: signed}, nil
}

// OpenHead verifies a signed head against the newest root document of chain.
// Errors: ErrInvalid; ErrStale for a head that only an older root document of the
// chain vouches for, or that is dated ahead of now by more than [MaxClockSkew].
func OpenHead(signed []byte, chain Chain, now time.Time) (Head, error) {
	signed = bytes.Clone(signed) // it is kept, and the caller's buffer is not ours
	newest := len(chain.Roots) - 1
	head, err := openHead(signed, chain, newest)
	for i := newest - 1; err != nil && i >= 0; i-- {
		if _, older := openHead(signed, chain, i); older == nil {
			return Head{}, stale("the head is from before %s changed its keys", chain.ID.Short())
		}
	}
	if err != nil {
		return Head{}, err
	}
	if head.Time.After(now.Add(MaxClockSkew)) {
		return Head{}, stale("the head is dated %s: its publisher's clock or ours is wrong", head.Time.UTC().Format(time.RFC3339))
	}
	return head, nil
}

// openHead verifies a signed head against one root document of chain.
func openHead(signed []byte, chain Chain, number int) (Head, error) {
	if len(signed) > MaxHeadSize {
		return Head{}, invalid("the head has %d bytes; %d are allowed", len(signed), MaxHeadSize)
	}
	text, err := openNote(signed, chain.ID, chain.Roots[number])
	if err != nil {
		return Head{}, invalid("head: %w", err)
	}
	head, err := parseHead(text)
	if err != nil {
		return Head{}, err
	}
	if head.Publisher != chain.ID {
		return Head{}, invalid("the head is %s's, not %s's", head.Publisher.Short(), chain.ID.Short())
	}
	head.Signed = signed
	return head, nil
}

func parseHead(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[0] != headOrigin || lines[5] != "" {
		return Head{}, invalid("the head's text is not one")
	}
	size, err := strconv.ParseInt(lines[2], 10, 64)
	if err != nil || size < 0 || size > MaxLogSize {
		return Head{}, invalid("the head's size %q", lines[2])
	}
	hash, err := base64.StdEncoding.Strict().DecodeString(lines[3])
	if err != nil || len(hash) != tlog.HashSize {
		return Head{}, invalid("the head's hash %q", lines[3])
	}
	seconds, err := strconv.ParseInt(lines[4], 10, 64)
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return Head{}, invalid("the head's time %q", lines[4])
	}
	head := Head{Publisher: shared.PublisherID(lines[1]), Size: size, Time: time.Unix(seconds, 0)}
	if !head.Publisher.Complete() {
		return Head{}, invalid("the head's publisher %q", lines[1])
	}
	copy(head.Hash[:], hash)
	if empty, _ := tlog.TreeHash(0, nil); size == 0 && head.Hash != empty {
		return Head{}, invalid("the head of no entries has the hash of some")
	}
	return head, nil
}
