package reputation

import (
	"math"
	"time"
)

// The weights of the score's parts, which sum to 1. Whether a peer delivers what it
// promised is worth as much as all the rest: a fast peer that fails costs more than a
// slow one that does not. How soon it answers decides small packages and how much it
// sends large ones, so both count alike. When it last delivered, and where
// it says it is, say little about the next time: together they can move a score by less
// than one failure does.
const (
	weightReliability = 0.5
	weightResponse    = 0.2
	weightBandwidth   = 0.2
	weightRecency     = 0.05
	weightNearness    = 0.05
)

// unknown is a part of which nothing is known, so that a stranger has 0.5 in all.
const unknown = 0.5

const (
	// A stranger is taken for somebody who has delivered twice: most peers are honest,
	// and nobody could ever be asked first otherwise. Beta(3, 1) has the mean 0.75.
	priorSuccesses, priorFailures = 3, 1

	// halfResponse is the time to the first byte that is worth half: about a round trip
	// to the other side of the world. halfBandwidth is the same in bytes a second: 1 MB
	// is what takes a second on a slow line.
	halfResponse  = 200 * time.Millisecond
	halfBandwidth = 1e6

	// halfDistance in kilometres is worth half: across a continent.
	halfDistance = 5000

	// recencyHalfLife is how soon having delivered wears off, and measuredHalfLife how
	// soon times do that were measured: a line is the same next week, most of the time.
	recencyHalfLife  = 24 * time.Hour
	measuredHalfLife = 7 * 24 * time.Hour
)

// deviations is how many standard deviations the reliability stays below the mean of
// its distribution. It makes a stranger's exactly [unknown], as 0.75 − √(5/3)·√(3/80)
// is 0.5, and is a lower bound with 90 % confidence.
var deviations = math.Sqrt(5.0 / 3)

// Score is a peer's reputation with its parts, each from 0 to 1; a stranger has 0.5 in
// all of them. A banned peer has the total 0.
//
//	total       = 0.5·reliability + 0.2·response + 0.2·bandwidth + 0.05·recency + 0.05·nearness
//	reliability = m − √(5/3)·√(m(1−m)/(n+1)), the lower confidence bound of
//	              Beta(3+s, 1+f), with n = 4+s+f and m = (3+s)/n; s and f are
//	              successes and failures, which fade by half in 24 h
//	response    = 1/(1 + t/200 ms)
//	bandwidth   = r/(r + 1 MB/s)
//	recency     = ½ + ½·½^(t/24 h), with the time t since the last success
//	nearness    = the response once one was measured; before, 1/(1 + d/5000 km)
//
// Response and bandwidth return to 0.5 by half in 7 days without a measurement, so a
// peer of which nothing was heard for long is a stranger again, and not a suspect.
type Score struct {
	Total                                               float64
	Reliability, Response, Bandwidth, Recency, Nearness float64
}

// Part is one part of a score.
type Part struct {
	Name          string
	Value, Weight float64 // both 0 to 1; the weights sum to 1
}

// Parts are the score's parts with their weights, in order of weight.
func (s Score) Parts() []Part {
	return []Part{
		{"reliability", s.Reliability, weightReliability},
		{"response", s.Response, weightResponse},
		{"bandwidth", s.Bandwidth, weightBandwidth},
		{"recency", s.Recency, weightRecency},
		{"nearness", s.Nearness, weightNearness},
	}
}

// Score is the peer's reputation now.
func (k *Book) Score(peer string) Score {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.score(k.peers[peer], k.now())
}

// score is what a record is worth; nil is a stranger's.
func (k *Book) score(r *Record, now time.Time) Score {
	s := Score{Reliability: unknown, Response: unknown, Bandwidth: unknown, Recency: unknown, Nearness: unknown}
	if r != nil {
		fading := half(now.Sub(r.Counted), halfLife)
		s.Reliability = reliability(r.Successes*fading, r.Failures*fading)
		if !r.LastSuccess.IsZero() {
			s.Recency = unknown + (1-unknown)*half(now.Sub(r.LastSuccess), recencyHalfLife)
		}
		fresh := half(now.Sub(r.Measured), measuredHalfLife)
		if r.Pace > 0 {
			s.Bandwidth = unknown + fresh*(bandwidth(r.Bandwidth())-unknown)
		}
		switch km, known := k.here.Distance(r.Place); {
		case r.Response > 0:
			s.Response = unknown + fresh*(response(r.Response)-unknown)
			s.Nearness = s.Response
		case known:
			s.Nearness = nearness(km)
		}
	}
	s.Total = weightReliability*s.Reliability + weightResponse*s.Response + weightBandwidth*s.Bandwidth +
		weightRecency*s.Recency + weightNearness*s.Nearness
	if r != nil && r.BannedUntil.After(now) {
		s.Total = 0
	}
	return s
}

// reliability is a lower bound of the chance that the next dealing succeeds.
func reliability(successes, failures float64) float64 {
	n := successes + failures + priorSuccesses + priorFailures
	mean := (successes + priorSuccesses) / n
	return min(max(mean-deviations*math.Sqrt(mean*(1-mean)/(n+1)), 0), 1)
}

func response(t time.Duration) float64 { return 1 / (1 + float64(t)/float64(halfResponse)) }

func bandwidth(bytesPerSecond float64) float64 {
	if math.IsInf(bytesPerSecond, 1) {
		return 1
	}
	return bytesPerSecond / (bytesPerSecond + halfBandwidth)
}

func nearness(km float64) float64 { return 1 / (1 + km/halfDistance) }

// half is what is left after a time of which each half-life takes half.
func half(age, halfLife time.Duration) float64 {
	return math.Exp2(-max(float64(age), 0) / float64(halfLife))
}

// Expectation is what the past lets one expect of a peer's next answer.
type Expectation struct {
	Response   time.Duration // to the first byte; 0: not known
	Pace       float64       // seconds a byte beyond that; 0: not known
	Nearby     time.Duration // what the distance of stated places makes of Response; 0: not known
	Confidence float64       // that it succeeds, 0 to 1
	Dealings   float64       // how many the confidence rests on, faded
	Rests      bool          // it has just failed: better ask somebody else
	Banned     bool          // it is not to be asked
}

// Expect says what the past lets one expect of a peer.
func (k *Book) Expect(peer string) Expectation {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.peers[peer]
	if r == nil {
		return Expectation{Confidence: unknown}
	}
	now := k.now()
	fading := half(now.Sub(r.Counted), halfLife)
	e := Expectation{
		Response: r.Response, Pace: r.Pace, Confidence: reliability(r.Successes*fading, r.Failures*fading),
		Dealings: (r.Successes + r.Failures) * fading, Rests: r.RestsUntil().After(now), Banned: r.BannedUntil.After(now),
	}
	if km, known := k.here.Distance(r.Place); known {
		e.Nearby = lastMiles + time.Duration(km*float64(perKilometre))
	}
	return e
}

// A round trip takes 10 µs for each kilometre of glass; cables are half as long again as
// great circles, and at both ends there are some milliseconds more.
const (
	perKilometre = 15 * time.Microsecond
	lastMiles    = 10 * time.Millisecond
)
