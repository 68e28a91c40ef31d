// Package robust does to a cluster of real processes what happens to clusters at
// night, and judges what they answered meanwhile:
//
//	traffic.go   clients create, change and read tenants through every node
//	faults.go    nodes are killed, frozen, cut off, added, removed
//	history.go   every call with what was asked, answered, and when
//	model.go     the history against a single tenant that changes at one moment
//	revisions.go the history against the revisions that it names
//	remains.go   what the killed processes left: one log, one state, one leader a term
//	leader.go    how long changes wait when the leader is killed
//	writes.go    samples, acknowledged while nodes are killed, counted back
//	limits.go    tenants send more series than they may, and what is accepted is counted
//	growth.go    a node joins and one leaves while samples are written by the clock
//
// It is what `make robust` runs, and a shorter run of it is a test.
package robust
