package main

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// hashroute is a tenant's name or a pattern of a hashring.
type hashroute struct {
	pattern string
	ring    int // place of the hashring in the file
}

func (h hashroute) isName() bool { return literal(h.pattern) == h.pattern }

// thanosFirst is what Thanos finds first: the hashring that stands first.
func thanosFirst(a, b hashroute) bool { return a.ring < b.ring }

// musterFirst is what wins here: a name, the longest literal beginning, the
// longest, byte order.
func musterFirst(a, b hashroute) bool {
	x, y := len(literal(a.pattern)), len(literal(b.pattern))
	switch {
	case a.isName() != b.isName():
		return a.isName()
	case x != y:
		return x > y
	case len(a.pattern) != len(b.pattern):
		return len(a.pattern) > len(b.pattern)
	default:
		return a.pattern < b.pattern
	}
}

// piece is a part of a pattern: any number of characters, or one that match.
type piece struct {
	any   bool
	match [128]bool
}

// piecesOf cuts a pattern that path.Match takes; what one piece means path.Match
// says itself.
func piecesOf(pattern string) []piece {
	var out []piece
	for len(pattern) > 0 {
		n := 1
		switch pattern[0] {
		case '*':
			out, pattern = append(out, piece{any: true}), pattern[1:]
			continue
		case '\\':
			n = 2
		case '[':
			n = classLen(pattern)
		}
		var p piece
		for c := range p.match {
			p.match[c], _ = path.Match(pattern[:n], string(rune(c)))
		}
		out, pattern = append(out, p), pattern[n:]
	}
	return out
}

// classLen is the length of the class that a pattern begins with.
func classLen(pattern string) int {
	i := 1
	if i < len(pattern) && pattern[i] == '^' {
		i++
	}
	for first := true; i < len(pattern); first = false {
		switch {
		case pattern[i] == ']' && !first:
			return i + 1
		case pattern[i] == '\\':
			i++
		}
		i++
	}
	return len(pattern)
}

const (
	idFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	idRest  = idFirst + "-._:@=+"
	// maxPlaces bounds a search: beyond it, patterns are too tangled to compare.
	maxPlaces = 200_000
)

// place is how far a tenant's id that has been spelled so far has come in each
// pattern: sorted, the pattern's number and the piece it is at.
type place [][2]int

func (p place) key() string {
	b := make([]byte, 0, 8*len(p))
	for _, at := range p {
		b = strconv.AppendInt(b, int64(at[0]), 36)
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(at[1]), 36)
		b = append(b, ' ')
	}
	return string(b)
}

// spell searches the shortest tenant id for which wanted says yes of the numbers
// of the patterns that match it, ascending. tried is false where the search was
// given up.
func spell(patterns []hashroute, wanted func(matching []int) bool) (id string, found, tried bool) {
	pieces := make([][]piece, len(patterns))
	var start place
	for i, p := range patterns {
		pieces[i] = piecesOf(p.pattern)
		start = enter(start, pieces[i], i, 0)
	}
	first, rest := lettersOf(pieces, idFirst), lettersOf(pieces, idRest)
	type spelled struct {
		at place
		id string
	}
	seen, queue := map[string]bool{}, []spelled{{start, ""}}
	for len(queue) > 0 {
		now := queue[0]
		queue = queue[1:]
		letters := rest
		if now.id == "" {
			letters = first
		}
		for _, c := range []byte(letters) {
			next := step(now.at, pieces, c)
			if len(next) == 0 {
				continue
			}
			if wanted(matchingAt(next, pieces)) {
				return now.id + string(c), true, true
			}
			if k := next.key(); !seen[k] && len(now.id) < 127 {
				if seen[k] = true; len(seen) > maxPlaces {
					return "", false, false
				}
				queue = append(queue, spelled{next, now.id + string(c)})
			}
		}
	}
	return "", false, true
}

// enter adds a place in a pattern, and those behind it that need no character.
func enter(p place, of []piece, i, at int) place {
	for {
		if slices.Contains(p, [2]int{i, at}) {
			return p
		}
		p = append(p, [2]int{i, at})
		if at == len(of) || !of[at].any {
			return p
		}
		at++
	}
}

func step(p place, pieces [][]piece, c byte) place {
	var next place
	from := 0 // where the present pattern's places begin: enter looks at these only
	for k, at := range p {
		if k > 0 && p[k-1][0] != at[0] {
			from = len(next)
		}
		of := pieces[at[0]]
		switch {
		case at[1] == len(of):
		case of[at[1]].any:
			next = append(next[:from], enter(next[from:], of, at[0], at[1])...)
		case of[at[1]].match[c]:
			next = append(next[:from], enter(next[from:], of, at[0], at[1]+1)...)
		}
	}
	slices.SortFunc(next, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	return next
}

func matchingAt(p place, pieces [][]piece) []int {
	var out []int
	for _, at := range p {
		if at[1] == len(pieces[at[0]]) {
			out = append(out, at[0])
		}
	}
	return out
}

// lettersOf are those of the alphabet that the patterns tell apart, and one for
// all others.
func lettersOf(pieces [][]piece, alphabet string) string {
	var out strings.Builder
	seen := map[string]bool{}
	for _, c := range []byte(alphabet) {
		var kind strings.Builder
		for _, of := range pieces {
			for _, p := range of {
				if p.match[c] {
					kind.WriteByte('1')
				} else {
					kind.WriteByte('0')
				}
			}
		}
		if !seen[kind.String()] {
			seen[kind.String()] = true
			out.WriteByte(c)
		}
	}
	return out.String()
}

// best is which of the matching ones wins.
func best(patterns []hashroute, matching []int, wins func(a, b hashroute) bool) hashroute {
	out := patterns[matching[0]]
	for _, i := range matching[1:] {
		if wins(patterns[i], out) {
			out = patterns[i]
		}
	}
	return out
}

// reached says whether some tenant that the last of the patterns matches is
// matched by none before it. Where that cannot be said, it is.
func reached(patterns []hashroute) bool {
	last := len(patterns) - 1
	_, found, tried := spell(patterns, func(m []int) bool { return len(m) == 1 && m[0] == last })
	return found || !tried
}

// disputed is a tenant that Thanos gives to one hashring and these rules to
// another, with the patterns by which they do.
func disputed(patterns []hashroute) (id string, theirs, ours hashroute, found, tried bool) {
	id, found, tried = spell(patterns, func(m []int) bool {
		return len(m) > 1 && best(patterns, m, thanosFirst).ring != best(patterns, m, musterFirst).ring
	})
	if !found {
		return "", theirs, ours, false, tried
	}
	var matching []int
	for i, p := range patterns {
		if ok, _ := path.Match(p.pattern, id); ok {
			matching = append(matching, i)
		}
	}
	return id, best(patterns, matching, thanosFirst), best(patterns, matching, musterFirst), true, true
}
