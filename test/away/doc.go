// Package away tests that mail outlives the absence of its recipient's node. It holds
// tests alone; they drive real programs, built with the tag asmtpclock so that days pass
// in seconds.
package away
