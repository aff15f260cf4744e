// How the Python module carries operations out: addresses become pointers, a program writes down.
#pragma once

#include <cstdint>
#include <tuple>

#include "operations.h"
#include "program.h"

namespace lmo::bindings {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

using Vector = std::tuple<Address, int>;  // address and dtype

inline Dtype dtype_of(int code) { return static_cast<Dtype>(code); }

// Carries out an operation of a table; of a program, which also writes it down.
template <class Args>
void run(const Operations& ops, void (*Operations::*operation)(const Args&), const Args& args) {
    (ops.*operation)(args);
}

template <class Args>
void run(Program& program, void (*Operations::*operation)(const Args&), const Args& args) {
    program.run(program.*operation, args);
}

// The same of an operation that no table has.
template <class Args>
void run(const Operations&, void (*operation)(const Args&), const Args& args) {
    operation(args);
}

template <class Args>
void run(Program& program, void (*operation)(const Args&), const Args& args) {
    program.run(operation, args);
}

}  // namespace lmo::bindings
