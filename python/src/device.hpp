// Calls on arrays of a device: they are checked and planned as others are, and carried out by a function of Python.
#pragma once

#include "view.hpp"

namespace piquant_python {

// For as long as it lives, calls of this thread with its context go to the function of a face.
class OnDevice {
public:
    OnDevice(const Face& face, int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

    piquant_context_t* context() const;

    const Face& face;
    const int device;

private:
    const OnDevice* outer_;
};

}  // namespace piquant_python
