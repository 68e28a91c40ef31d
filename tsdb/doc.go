// Package tsdb keeps the samples of this store: one Prometheus TSDB per tenant,
// in <Dir>/<tenant>.<incarnation>/.
//
// # Appending
//
// A share is appended sample by sample, and each gets an outcome that can be
// relied on: Stored means in the write-ahead log and readable. The TSDB alone
// does not promise that. Its appenders check a sample against what is committed,
// check again at commit, and drop in silence what does not fit any more. So the
// writes of a tenant are serialised, and a sample that stands in its share behind
// a newer one of the same series waits for the next appender. What the TSDB
// refuses for its time is read back: identical there is Stored, another value
// there is Conflict, and what is absent goes in through the out-of-order window
// or, when it is too old for that, is a Hole. A repeat is appended in order only,
// read back, and completed: it adds nothing that is there already.
//
// A known series costs no allocation: the canonical bytes of its labels are cast
// to labels.Labels, the head compares them whole and gives a reference, and the
// sample is appended by it. References never leave an append.
//
// # Durability
//
// A commit is in the page cache: the end of the process loses nothing. The logs
// are synced every ten seconds. After the end of the machine (another boot id) or
// a log that had to be repaired, the store declares a gap from the last sync to
// the opening, and keeps saying so until it is filled.
//
// A write to a log that failed leaves half a record behind, and what came after
// it would be cut away at the next opening. So a tenant takes nothing more after
// one, until its TSDB has been reopened. Below a reserve of free space nothing is
// appended at all: the TSDB panics when it cannot write a full chunk.
//
// # Blocks
//
// Windows are cut by the wall clock, for silent tenants too, the out-of-order
// head after them. Before a range is written, a fence sends samples that belong
// into it to the out-of-order head. Series whose slots moved away are written to
// blocks of their own and dropped before their window's time (letgo.go says what a
// crash does). Nothing foreign is ever placed in a tenant's directory: a block
// there without the hint from-out-of-order makes the next start discard the log
// below its end.
package tsdb
