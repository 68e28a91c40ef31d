// Package ring is arithmetic: who holds a slot and who held it before, what a
// fence refuses, when an epoch may be closed, and when an answer is complete.
// Nothing in it knows a clock, a disk or a network; revisions and times are
// handed in. docs/decisions tell why the table is committed and not computed.
//
//	           join of n4 commits at revision 41
//	                      │
//	slot 7   {n1 n2 n3} ──┤── {n1 n2 n4} ─────────▶ revisions
//	         from 12      │   Changed 41
//	                      │
//	         this epoch has ended; it is *closed* once enough of n1 n2 n3
//	         have announced 41 or later, so that no write can begin in it
//
// Until it is closed, senders and receivers that have not heard of 41 go on
// acknowledging writes in the old epoch, whatever the time; so a read asks both
// sets for everything from 41 to the closing:
//
//	time        Begin            End            ClosedAt
//	old epoch   ├─ writes begin ──┼─ by old views ──┤
//	new epoch                     ├─ writes begin ────────────▶
//
// A read is sure only by a table that was the committed one after it began (a
// Barrier): no answer of the old replicas can tell an unaware reader that others
// already acknowledge among the new.
//
// Changes are made in three pure steps. Plan says which set each slot should
// have; NextSteps takes one replica towards it in every settled slot; Apply
// commits. The tests named model explore every interleaving of a write with
// such changes, and prove that they would notice if a rule were broken.
package ring
