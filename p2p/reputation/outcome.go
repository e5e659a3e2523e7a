package reputation

import (
	"encoding/json"
	"time"
)

// For how long a peer is banned. A flood may be a mistake of a program that was just
// restarted; a broken protocol is one that lasts until somebody repairs it; wrong content
// is a damaged disk or a lie, and asking again costs the whole content.
const (
	BanFlooded      = 5 * time.Minute
	BanMalformed    = 30 * time.Minute
	BanWrongContent = time.Hour
)

// Outcome is what one dealing with a peer was like. The zero value is none.
type Outcome int

// The outcomes. Absent and Busy are no failures: a peer that does not have what was asked
// for, or says that it has too much to do, keeps what it promises.
const (
	Success      Outcome = iota + 1 // it delivered verified content
	Absent                          // it does not have what was asked for
	Busy                            // it refused for now
	Unreachable                     // no connection came about
	Disconnected                    // it broke off
	Stalled                         // it stopped sending
	Failure                         // it failed in another way
	Flooded                         // it sent more than anybody has a use for
	Malformed                       // it broke a protocol, or lied about others
	WrongContent                    // it sent content that does not match its digest

	outcomes = iota + 1 // all values are below
)

var outcomeNames = [outcomes]string{
	"", "delivered", "absent", "busy", "unreachable", "disconnected", "stalled", "failed", "flooded", "malformed", "wrong-content",
}

func (o Outcome) known() bool { return o > 0 && o < outcomes }

// String is the stable name of the outcome, as users see it.
func (o Outcome) String() string {
	if !o.known() {
		return ""
	}
	return outcomeNames[o]
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. A name that is not known, perhaps of
// a later version, is no outcome.
func (o *Outcome) UnmarshalText(text []byte) error {
	*o = 0
	for i, name := range outcomeNames {
		if name == string(text) {
			*o = Outcome(i)
		}
	}
	return nil
}

// blame is how much of a failure an outcome is. A peer that cannot be reached may just
// have been switched off, which is its right.
func (o Outcome) blame() float64 {
	switch o {
	case Disconnected, Stalled, Failure, Flooded, Malformed, WrongContent:
		return 1
	case Unreachable:
		return 0.5
	}
	return 0
}

// Ban is for how long an outcome bans a peer; 0: it does not.
func (o Outcome) Ban() time.Duration {
	switch o {
	case Flooded:
		return BanFlooded
	case Malformed:
		return BanMalformed
	case WrongContent:
		return BanWrongContent
	}
	return 0
}

// Counts are plain numbers of outcomes, by outcome.
type Counts [outcomes]int64

// MarshalJSON writes those that are not 0 by their names.
func (c Counts) MarshalJSON() ([]byte, error) { return json.Marshal(c.ByName()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Counts) UnmarshalJSON(data []byte) error {
	var named map[Outcome]int64
	if err := json.Unmarshal(data, &named); err != nil {
		return err
	}
	*c = Counts{}
	for o, n := range named {
		if o.known() && n > 0 {
			c[o] = n
		}
	}
	return nil
}

// ByName are those that are not 0.
func (c Counts) ByName() map[string]int64 {
	named := map[string]int64{}
	for o, n := range c {
		if n != 0 {
			named[Outcome(o).String()] = n
		}
	}
	return named
}
