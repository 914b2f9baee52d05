// Package large shows by real programs what the largest mail costs: what each hop of its way
// carries when it is cut in the middle, and how much memory each process takes for it. There
// is nothing but tests; start with TestLargestMailCutAtEveryHop.
package large
