;; Holds the only value that Ruby hands out: that of the script.
(module
  (global $value (mut i32) (i32.const 0))
  (func (export "resource_new_rb-abi-value") (param $value i32) (result i32)
    (global.set $value (local.get $value))
    (i32.const 0))
  (func (export "resource_get_rb-abi-value") (param i32) (result i32) (global.get $value))
  (func (export "resource_drop_js-abi-value") (param i32)))
