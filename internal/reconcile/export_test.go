package reconcile

// MinFrame is the smallest limit of a frame.
const MinFrame = minFrame
