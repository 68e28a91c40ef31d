package ring

import "fmt"

// Mode is how many replicas must hold a sample before it is acknowledged.
type Mode uint8

// The modes of a ring.
const (
	Majority Mode = iota
	One
	All
)

// Quorum is the number of replicas that mode asks for at replication factor rf.
// The majority of two is one, as Thanos counts it: with one of two nodes down
// writes go on, and a read needs both to be sure.
func (m Mode) Quorum(rf int) int {
	switch {
	case m == One || rf <= 1:
		return 1
	case m == All:
		return rf
	case rf == 2:
		return 1
	default:
		return rf/2 + 1
	}
}

// String is the mode as people write it.
func (m Mode) String() string {
	switch m {
	case Majority:
		return "majority"
	case One:
		return "one"
	case All:
		return "all"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// ParseMode reads what String writes.
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Majority, One, All} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("write quorum %q: want one, majority or all", s)
}

// Witnesses is how many of n replicas meet every quorum of q among them: a
// read that hears so many has met each acknowledged write. It is 0 where no
// quorum could be had, since then nothing was acknowledged.
func Witnesses(n, q int) int { return max(0, n-q+1) }
