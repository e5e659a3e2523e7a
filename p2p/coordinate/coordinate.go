// Package coordinate predicts the round trip between two peers that have never
// exchanged a packet: each peer keeps a point in a small space, and the distance
// between two points is the predicted time. Points move a little with every
// measured round trip until they fit.
//
// This is Vivaldi (Dabek, Cox, Kaashoek, Morris: Vivaldi, a decentralized network
// coordinate system, SIGCOMM 2004) with heights. The package measures nothing and
// knows no network: who measures, and how points travel, is the caller's business.
// A peer can lie about its point; whoever uses a prediction must survive that it is
// wrong.
package coordinate

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// dimensions of the space besides the height: the paper finds that two or three
	// with a height fit the internet as well as more; a fourth costs 4 bytes and helps
	// networks that are no internet.
	dimensions = 4

	// fitting and averaging are the paper's constants: the share of an error by which a
	// point moves, and that by which the error estimate does (0.25 both, section 2.5).
	fitting   = 0.25
	averaging = 0.25

	// leastHeight keeps two peers on one host apart, in seconds: 10 µs.
	leastHeight = 10e-6

	// worstError is the error of a point that knows nothing yet.
	worstError = 1.5

	// MaxRoundTrip bounds what is taken for a round trip; a longer one is a peer that
	// did not answer at once.
	MaxRoundTrip = 5 * time.Second

	// Size is the length of an encoded point in bytes.
	Size = 4 * (dimensions + 2)
)

// Point is a peer's place. The zero value is the origin with no confidence at all;
// points are values and are never changed in place.
type Point struct {
	at     [dimensions]float64 // seconds
	height float64             // seconds: what every path from here costs besides
	err    float64             // relative, of predictions from here; 0 in the zero value
}

// Origin is where everybody begins.
func Origin() Point { return Point{height: leastHeight, err: worstError} }

// Known tells whether the point has been fitted at all: predictions from others are
// guesses.
func (p Point) Known() bool { return p.err > 0 && p.err < worstError }

// Error is the estimated relative error of predictions from this point, 0 to 1.5.
func (p Point) Error() float64 { return p.err }

// RoundTrip predicts the round trip between two points.
func (p Point) RoundTrip(q Point) time.Duration {
	return time.Duration((p.distance(q) + p.height + q.height) * float64(time.Second))
}

func (p Point) distance(q Point) float64 {
	sum := 0.0
	for i := range p.at {
		d := p.at[i] - q.at[i]
		sum += d * d
	}
	return math.Sqrt(sum)
}

// toward is the unit vector from q to p; a random one if they are in one place.
func (p Point) toward(q Point) (unit [dimensions]float64) {
	length := p.distance(q)
	if length < 1e-9 {
		for length < 1e-3 {
			length = 0
			for i := range unit {
				unit[i] = rand.Float64() - 0.5
				length += unit[i] * unit[i]
			}
			length = math.Sqrt(length)
		}
	} else {
		for i := range unit {
			unit[i] = p.at[i] - q.at[i]
		}
	}
	for i := range unit {
		unit[i] /= length
	}
	return unit
}

// fitted is p after one round trip to a peer at q was measured (the paper's figure 3,
// and section 5.4 for heights).
func (p Point) fitted(q Point, measured float64) Point {
	predicted := p.distance(q) + p.height + q.height
	weight := p.err / (p.err + max(q.err, 1e-6))
	sample := min(math.Abs(predicted-measured)/measured, worstError)
	p.err = min(sample*averaging*weight+p.err*(1-averaging*weight), worstError)
	force := fitting * weight * (measured - predicted)
	unit := p.toward(q)
	for i := range p.at {
		p.at[i] += unit[i] * force
	}
	if predicted > 0 {
		p.height = max(p.height+(p.height+q.height)*force/predicted, leastHeight)
	}
	return p
}

// valid tells whether all numbers make sense: a peer's word is only taken then.
func (p Point) valid() bool {
	most := MaxRoundTrip.Seconds()
	for _, x := range p.at {
		if math.IsNaN(x) || math.Abs(x) > most {
			return false
		}
	}
	return p.height >= 0 && p.height <= most && p.err >= 0 && p.err <= worstError
}

// Append encodes the point: float32, big-endian.
func (p Point) Append(b []byte) []byte {
	for _, x := range p.at {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(x)))
	}
	b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(p.height)))
	return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(p.err)))
}

// Parse decodes a point of [Size] bytes. A point that no honest peer can have is an
// error.
func Parse(b []byte) (Point, error) {
	if len(b) != Size {
		return Point{}, errors.New("a point has the wrong length")
	}
	next := func() float64 {
		x := float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
		b = b[4:]
		return x
	}
	var p Point
	for i := range p.at {
		p.at[i] = next()
	}
	p.height, p.err = next(), next()
	if !p.valid() {
		return Point{}, errors.New("a point that cannot be")
	}
	return p, nil
}

// Place is the point of this node, which moves. Its methods may be called
// concurrently.
type Place struct {
	mu    sync.Mutex // guards point
	point Point
}

// NewPlace begins at the origin.
func NewPlace() *Place { return &Place{point: Origin()} }

// Point is where the node is now.
func (p *Place) Point() Point {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.point
}

// Observe moves the node by one measured round trip to a peer at q. A round trip
// that is not above zero, or above [MaxRoundTrip], is ignored.
func (p *Place) Observe(q Point, roundTrip time.Duration) {
	if roundTrip <= 0 || roundTrip > MaxRoundTrip || !q.valid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if moved := p.point.fitted(q, roundTrip.Seconds()); moved.valid() {
		p.point = moved
	}
}
