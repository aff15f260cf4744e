// Operations that are carried out once and then again, without anybody asking Python for them.
#pragma once

#include <functional>
#include <vector>

#include "operations.h"

namespace lmo {

// The operations of a table, each written down with its arguments as it runs. What the arguments
// point to must stay where it is for as long as the program is replayed.
class Program : public Operations {
public:
    explicit Program(const Operations& operations) : Operations(operations) {}

    template <class Args>
    void run(void (*operation)(const Args&), const Args& args) {
        operation(args);
        calls_.emplace_back([operation, args] { operation(args); });
    }

    // The same operations in the same order, on what now lies at their addresses.
    void replay() const {
        for (const auto& call : calls_) call();
    }

private:
    std::vector<std::function<void()>> calls_;
};

}  // namespace lmo
