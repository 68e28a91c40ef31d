// Package muster holds the tests of the whole house; the programs are in cmd.
package muster
