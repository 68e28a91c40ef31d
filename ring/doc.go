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
package ring
