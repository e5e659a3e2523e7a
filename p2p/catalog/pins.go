package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/shared"
)

// Pin says which publisher a bare name means on this node since its first use.
type Pin struct {
	Name      string             `json:"name"`
	Publisher shared.PublisherID `json:"publisher"`
	FirstUse  time.Time          `json:"first_use"`
}

// Pinned finds the pin of a name.
func (c *Catalog) Pinned(name string) (Pin, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	pin, ok := c.pins[name]
	return pin, ok
}

// Pins lists all pins by name.
func (c *Catalog) Pins() []Pin {
	c.mu.RLock()
	defer c.mu.RUnlock()
	pins := make([]Pin, 0, len(c.pins))
	for _, pin := range c.pins {
		pins = append(pins, pin)
	}
	slices.SortFunc(pins, func(a, b Pin) int { return cmp.Compare(a.Name, b.Name) })
	return pins
}

// Pin durably binds names to publishers, all or none; a name that is pinned to
// the same publisher keeps its first use. Errors: UNTRUSTED when a name is
// pinned to somebody else, STORAGE.
func (c *Catalog) Pin(names map[string]shared.PublisherID) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	var added []Pin
	for name, id := range names {
		if pin, ok := c.Pinned(name); !ok {
			added = append(added, Pin{Name: name, Publisher: id, FirstUse: c.clock().UTC().Truncate(time.Second)})
		} else if pin.Publisher != id {
			return PublisherChanged(pin, id)
		}
	}
	if len(added) == 0 {
		return nil
	}
	return c.writePins(added)
}

// Repin durably binds a name to a publisher, whatever it was bound to, or to none.
// It returns the pin of before. Errors: STORAGE.
func (c *Catalog) Repin(name string, id shared.PublisherID) (former Pin, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	former, _ = c.Pinned(name)
	if former.Publisher == id {
		return former, nil
	}
	return former, c.writePins([]Pin{{Name: name, Publisher: id, FirstUse: c.clock().UTC().Truncate(time.Second)}})
}

// writePins stores pins, and removes those without a publisher. The caller holds
// c.writing.
func (c *Catalog) writePins(pins []Pin) error {
	err := c.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketPins)
		if err != nil {
			return err
		}
		for _, pin := range pins {
			if err := putPin(bucket, pin); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return storageError(c.db, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pin := range pins {
		c.pins[pin.Name] = pin
		if pin.Publisher == "" {
			delete(c.pins, pin.Name)
		}
	}
	return nil
}

func putPin(bucket *bbolt.Bucket, pin Pin) error {
	if pin.Publisher == "" {
		return bucket.Delete([]byte(pin.Name))
	}
	value, err := json.Marshal(pin)
	if err != nil {
		return err
	}
	return bucket.Put([]byte(pin.Name), value)
}

// PublisherChanged is the refusal of a publisher that a name is not pinned to.
func PublisherChanged(pin Pin, offered shared.PublisherID) error {
	return shared.NewError(shared.ReasonUntrusted, "%s is pinned to publisher %s since %s, and not to %s",
		pin.Name, pin.Publisher, pin.FirstUse.Format(time.DateOnly), offered).
		WithHint("somebody else offers a package of the same name; if you are sure that it is the other one that you want: `ggen marketplace trust pin %s %s`", pin.Name, offered.Short()).
		With("pinned", string(pin.Publisher)).With("offered", string(offered))
}

func (c *Catalog) loadPin(name, value []byte) error {
	var pin Pin
	if err := json.Unmarshal(value, &pin); err != nil {
		return fmt.Errorf("pin of %q: %w", name, err)
	}
	if pin.Name != string(name) || !pin.Publisher.Complete() {
		return fmt.Errorf("pin of %q: it is damaged", name)
	}
	c.pins[string(name)] = pin
	return nil
}
