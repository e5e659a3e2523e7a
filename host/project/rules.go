package project

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"ggen.dev/marketplace/shared"
)

// Rules are what has to be true of a release before it is installed.
type Rules struct {
	Policy shared.TrustPolicy
	MinAge time.Duration
	// Of each package; 0 is what the format allows.
	MaxFiles int
	MaxSize  int64 // of its archive, in bytes
}

// MergeRules takes the strictest of all sources: a project that somebody sent cannot
// loosen what the user, or whoever set up the machine, has decided.
func MergeRules(sources ...Given) Rules {
	rules := Rules{Policy: shared.PolicyTOFU}
	for _, g := range sources {
		if g.Policy == shared.PolicyAllowList {
			rules.Policy = g.Policy
		}
		rules.MinAge = max(rules.MinAge, g.MinAge)
		rules.MaxFiles = stricter(rules.MaxFiles, g.MaxFiles)
		rules.MaxSize = stricter(rules.MaxSize, g.MaxSize)
	}
	return rules
}

// stricter is the lower of two limits, where 0 is none.
func stricter[T int | int64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// readLimits reads the limits of packages.
func (g *Given) readLimits(files int, size string) error {
	if files < 0 {
		return shared.NewError(shared.ReasonInvalidArgument, "max_package_files is %d", files)
	}
	g.MaxFiles = files
	if size == "" {
		return nil
	}
	bytes, err := humanize.ParseBytes(size)
	if err != nil || bytes == 0 || bytes > 1<<40 {
		return shared.NewError(shared.ReasonInvalidArgument, "max_package_size is %q, which is not a size such as 16MiB", size)
	}
	g.MaxSize = int64(bytes)
	return nil
}

// readRules reads the settings of trust, which are called as the two names say.
func (g *Given) readRules(policy, minAge, policyName, ageName string) error {
	switch g.Policy = shared.TrustPolicy(policy); g.Policy {
	case "", shared.PolicyTOFU, shared.PolicyAllowList:
	default:
		return shared.NewError(shared.ReasonInvalidArgument, "%s is %q", policyName, policy).
			WithHint("policies are %s and %s", shared.PolicyTOFU, shared.PolicyAllowList)
	}
	age, err := ParseAge(cmp.Or(minAge, "0s"))
	if err != nil {
		return shared.NewError(shared.ReasonInvalidArgument, "%s: %w", ageName, err)
	}
	g.MinAge = age
	return nil
}

// maxAge is the longest time that can be waited for a release, in days.
const maxAge = 3650

// ParseAge reads a duration such as 36h, or days and weeks such as 3d and 2w.
// Errors: INVALID_ARGUMENT.
func ParseAge(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	for unit, length := range map[string]time.Duration{"d": day, "w": 7 * day} {
		digits, ok := strings.CutSuffix(text, unit)
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && time.Duration(n)*length/day <= maxAge && n <= maxAge {
			return time.Duration(n) * length, nil
		}
	}
	if age, err := time.ParseDuration(text); err == nil && age >= 0 && age <= maxAge*day {
		return age, nil
	}
	return 0, shared.NewError(shared.ReasonInvalidArgument, "%q is not an age", text).WithHint("ages look like 36h, 3d or 2w; 0s is none")
}
