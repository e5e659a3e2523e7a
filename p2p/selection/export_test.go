package selection

// Expected is the prediction that the order is made of, for tests of its laws.
var Expected = expected
